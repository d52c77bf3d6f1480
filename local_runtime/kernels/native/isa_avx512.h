// Sixteen lanes in one register. Include with AVX-512 F, BW, VL, DQ and VNNI switched on.
#pragma once

#include <immintrin.h>

namespace fp {

struct Avx512 {
    using F = __m512;
    using I = __m512i;
    using B = __m512i;  // 64 bytes: four for each lane

    static F zero() { return _mm512_setzero_ps(); }
    static F all(float x) { return _mm512_set1_ps(x); }
    static F load(const float *p) { return _mm512_loadu_ps(p); }
    static void store(float *p, F x) { _mm512_storeu_ps(p, x); }
    static F load_half(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i *>(p))); }
    static void store_half(void *p, F x) {
        _mm256_storeu_si256(static_cast<__m256i *>(p), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
    }
    static F load_bfloat16(const void *p) {
        const __m256i half = _mm256_loadu_si256(static_cast<const __m256i *>(p));
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
    }
    static F add(F a, F b) { return _mm512_add_ps(a, b); }
    static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
    static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
    static F div(F a, F b) { return _mm512_div_ps(a, b); }
    static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
    static F max(F a, F b) { return _mm512_max_ps(a, b); }
    static F min(F a, F b) { return _mm512_min_ps(a, b); }
    static F abs(F a) { return _mm512_abs_ps(a); }
    static F round(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    // Neighbours change places.
    static F swapped(F a) { return _mm512_permute_ps(a, 0xb1); }
    // a where x >= y, else 0.
    static F keep_ge(F a, F x, F y) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, y, _CMP_GE_OQ), a); }
    // 2 ** n of whole numbers between -126 and 127.
    static F power_of_two(F n) {
        const I biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
        return _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23));
    }
    static void halves(F x, __m256 &low, __m256 &high) {
        low = _mm512_castps512_ps256(x);
        high = _mm512_extractf32x8_ps(x, 1);
    }

    static I none() { return _mm512_setzero_si512(); }
    static I all(int32_t x) { return _mm512_set1_epi32(x); }
    static I add(I a, I b) { return _mm512_add_epi32(a, b); }
    static I times_256(I a) { return _mm512_slli_epi32(a, 8); }
    static F to_float(I x) { return _mm512_cvtepi32_ps(x); }
    // Rounded to the nearest, as int8 in 16 bytes.
    static void store_int8(int8_t *p, F x) {
        _mm_storeu_si128(reinterpret_cast<__m128i *>(p), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x)));
    }
    // Rounded to the nearest, as int16: high bytes rounded up where the low ones are negative.
    static void store_int16(int8_t *high, int8_t *low, F x) {
        const I whole = _mm512_cvtps_epi32(x);
        const I upper = _mm512_srai_epi32(_mm512_add_epi32(whole, _mm512_set1_epi32(128)), 8);
        _mm_storeu_si128(reinterpret_cast<__m128i *>(high), _mm512_cvtepi32_epi8(upper));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(low), _mm512_cvtepi32_epi8(whole));
    }

    static B load_bytes(const void *p) { return _mm512_loadu_si512(p); }
    static B low_nibbles(B x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
    static B high_nibbles(B x) { return _mm512_and_si512(_mm512_srli_epi16(x, 4), _mm512_set1_epi8(15)); }
    // Right by so many bits (left where BY is negative), and what MASK leaves of each byte.
    template <int BY, int MASK> static B shifted(B x) {
        const B moved = BY < 0 ? _mm512_slli_epi16(x, BY < 0 ? -BY : 0) : _mm512_srli_epi16(x, BY < 0 ? 0 : BY);
        return _mm512_and_si512(moved, _mm512_set1_epi8(MASK));
    }
    static B either(B x, B y) { return _mm512_or_si512(x, y); }
    // sum + four products of unsigned and signed bytes in each lane; `x` is the same four for all lanes.
    static I dot_small(I sum, B w, int32_t x) { return _mm512_dpbusd_epi32(sum, w, _mm512_set1_epi32(x)); }
    static I dot(I sum, B w, int32_t x) { return _mm512_dpbusd_epi32(sum, w, _mm512_set1_epi32(x)); }
    static void ask_for(const void *p) { _mm_prefetch(static_cast<const char *>(p), _MM_HINT_T0); }
};

}  // namespace fp
