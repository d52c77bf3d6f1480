// What all kernels need of sixteen lanes. `V` is Avx512 or Avx2.
#pragma once

#include <immintrin.h>

namespace fp {

// The lanes' sum, in an order that does not depend on the instruction set.
template <class V> float sum_of(typename V::F x) {
    __m256 low, high;
    V::halves(x, low, high);
    const __m256 eight = _mm256_add_ps(low, high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

template <class V> float max_of(typename V::F x) {
    __m256 low, high;
    V::halves(x, low, high);
    const __m256 eight = _mm256_max_ps(low, high);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

// e ** x to within 2 ulp for x <= 88; exactly 0 below -87. A polynomial in what is left of x beyond n ln 2.
template <class V> typename V::F exp_of(typename V::F x) {
    const auto least = V::all(-87.0f);
    const auto held = V::min(V::max(x, least), V::all(88.0f));
    const auto n = V::round(V::mul(held, V::all(1.44269504f)));
    auto r = V::fma(n, V::all(-0.693359375f), held);
    r = V::fma(n, V::all(2.12194440e-4f), r);
    auto p = V::all(1.9875691500e-4f);
    p = V::fma(p, r, V::all(1.3981999507e-3f));
    p = V::fma(p, r, V::all(8.3334519073e-3f));
    p = V::fma(p, r, V::all(4.1665795894e-2f));
    p = V::fma(p, r, V::all(1.6666665459e-1f));
    p = V::fma(p, r, V::all(5.0000001201e-1f));
    p = V::fma(p, V::mul(r, r), V::add(r, V::all(1.0f)));
    return V::keep_ge(V::mul(p, V::power_of_two(n)), x, least);
}

template <class V> float exp_one(float x) {
    float lanes[16];
    V::store(lanes, exp_of<V>(V::all(x)));
    return lanes[0];
}

// x / (1 + e ** -x)
template <class V> typename V::F silu(typename V::F x) {
    return V::div(x, V::add(V::all(1.0f), exp_of<V>(V::sub(V::zero(), x))));
}

// tanh(x) = 1 - 2 / (e ** 2x + 1)
template <class V> typename V::F tanh_of(typename V::F x) {
    const auto held = V::min(V::max(x, V::all(-20.0f)), V::all(20.0f));
    const auto grown = V::add(exp_of<V>(V::add(held, held)), V::all(1.0f));
    return V::sub(V::all(1.0f), V::div(V::all(2.0f), grown));
}

// GELU by tanh (arXiv:1606.08415)
template <class V> typename V::F gelu_tanh(typename V::F x) {
    const auto cubed = V::mul(V::mul(x, x), x);
    const auto inner = V::mul(V::all(0.79788456f), V::fma(cubed, V::all(0.044715f), x));
    return V::mul(V::mul(V::all(0.5f), x), V::add(V::all(1.0f), tanh_of<V>(inner)));
}

}  // namespace fp
