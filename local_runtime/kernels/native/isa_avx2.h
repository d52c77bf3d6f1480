// Sixteen lanes in two registers, with the same results bit for bit. Include with AVX2, FMA and F16C switched on.
#pragma once

#include <immintrin.h>

namespace fp {

struct Avx2 {
    struct F {
        __m256 a, b;
    };
    struct I {
        __m256i a, b;
    };
    using B = I;

    static F zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
    static F all(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
    static F load(const float *p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
    static void store(float *p, F x) {
        _mm256_storeu_ps(p, x.a);
        _mm256_storeu_ps(p + 8, x.b);
    }
    static F load_half(const void *p) {
        const auto *q = static_cast<const __m128i *>(p);
        return {_mm256_cvtph_ps(_mm_loadu_si128(q)), _mm256_cvtph_ps(_mm_loadu_si128(q + 1))};
    }
    static void store_half(void *p, F x) {
        auto *q = static_cast<__m128i *>(p);
        _mm_storeu_si128(q, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
        _mm_storeu_si128(q + 1, _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
    }
    static F load_bfloat16(const void *p) {
        const auto *q = static_cast<const __m128i *>(p);
        return {wide(_mm_loadu_si128(q)), wide(_mm_loadu_si128(q + 1))};
    }
    static F add(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
    static F sub(F x, F y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
    static F mul(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
    static F div(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
    static F fma(F x, F y, F z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
    static F max(F x, F y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
    static F min(F x, F y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
    static F abs(F x) {
        const __m256 sign = _mm256_set1_ps(-0.0f);
        return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
    }
    static F round(F x) {
        constexpr int how = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        return {_mm256_round_ps(x.a, how), _mm256_round_ps(x.b, how)};
    }
    static F swapped(F x) { return {_mm256_permute_ps(x.a, 0xb1), _mm256_permute_ps(x.b, 0xb1)}; }
    static F keep_ge(F v, F x, F y) {
        return {_mm256_and_ps(_mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ), v.a),
                _mm256_and_ps(_mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ), v.b)};
    }
    static F power_of_two(F n) { return {power_of_two(n.a), power_of_two(n.b)}; }
    static void halves(F x, __m256 &low, __m256 &high) {
        low = x.a;
        high = x.b;
    }

    static I none() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
    static I all(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
    static I add(I x, I y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
    static I times_256(I x) { return {_mm256_slli_epi32(x.a, 8), _mm256_slli_epi32(x.b, 8)}; }
    static F to_float(I x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
    static void store_int8(int8_t *p, F x) {
        __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b));
        words = _mm256_permute4x64_epi64(words, 0xd8);
        const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(p), bytes);
    }
    static void store_int16(int8_t *high, int8_t *low, F x) {
        int32_t whole[16];
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(whole), _mm256_cvtps_epi32(x.a));
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(whole + 8), _mm256_cvtps_epi32(x.b));
        for (int i = 0; i < 16; i++) {
            high[i] = static_cast<int8_t>((whole[i] + 128) >> 8);
            low[i] = static_cast<int8_t>(whole[i]);
        }
    }

    static B load_bytes(const void *p) {
        const auto *q = static_cast<const __m256i *>(p);
        return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
    }
    static B low_nibbles(B x) {
        const __m256i mask = _mm256_set1_epi8(15);
        return {_mm256_and_si256(x.a, mask), _mm256_and_si256(x.b, mask)};
    }
    static B high_nibbles(B x) {
        return low_nibbles({_mm256_srli_epi16(x.a, 4), _mm256_srli_epi16(x.b, 4)});
    }
    template <int BY, int MASK> static B shifted(B x) { return {shifted<BY, MASK>(x.a), shifted<BY, MASK>(x.b)}; }
    static B either(B x, B y) { return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
    static I dot_small(I sum, B w, int32_t x) {
        const __m256i four = _mm256_set1_epi32(x);
        return {pairs(sum.a, w.a, four), pairs(sum.b, w.b, four)};
    }
    // Sums of two products of a whole byte do not fit in 16 bits: the nibbles are taken one after the other.
    static I dot(I sum, B w, int32_t x) {
        const I high = dot_small(none(), high_nibbles(w), x);
        sum = dot_small(sum, low_nibbles(w), x);
        return {_mm256_add_epi32(sum.a, _mm256_slli_epi32(high.a, 4)),
                _mm256_add_epi32(sum.b, _mm256_slli_epi32(high.b, 4))};
    }
    static void ask_for(const void *p) { _mm_prefetch(static_cast<const char *>(p), _MM_HINT_T0); }

  private:
    static __m256 wide(__m128i half) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
    }
    template <int BY, int MASK> static __m256i shifted(__m256i x) {
        const __m256i moved = BY < 0 ? _mm256_slli_epi16(x, BY < 0 ? -BY : 0) : _mm256_srli_epi16(x, BY < 0 ? 0 : BY);
        return _mm256_and_si256(moved, _mm256_set1_epi8(MASK));
    }
    static __m256 power_of_two(__m256 n) {
        const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
    }
    static __m256i pairs(__m256i sum, __m256i w, __m256i x) {
        return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
    }
};

}  // namespace fp
