// Rows of int8 activations times tiles of 4- or 8-bit weights.
#pragma once

#include <algorithm>
#include <cstring>

#include "layout.h"
#include "vectors.h"

namespace fp {

// Four int8 as they lie in memory.
using Four __attribute__((may_alias)) = int32_t;

// The largest number that an activation is rounded to: with 16 bits the high byte may be rounded up to 127.
constexpr float MOST_FINE = 32512.0f, MOST_COARSE = 127.0f;

// Round one group of 32.
template <class V> void quantise_group(const float *x, const Activations &to, int row, int group) {
    const auto a = V::load(x), b = V::load(x + LANES);
    const float most = max_of<V>(V::max(V::abs(a), V::abs(b))), range = to.fine ? MOST_FINE : MOST_COARSE;
    const float scale = most / range, back = most > 0.0f ? range / most : 0.0f;
    const auto first = V::round(V::mul(a, V::all(back))), second = V::round(V::mul(b, V::all(back)));
    const Slot slot = to.slot(row);
    if (to.floats) {
        V::store(to.row(row) + group * GROUP, a);
        V::store(to.row(row) + group * GROUP + LANES, b);
    }
    if (to.fine) {
        V::store_int16(slot.high(group), slot.low(group), first);
        V::store_int16(slot.high(group) + LANES, slot.low(group) + LANES, second);
    } else {
        V::store_int8(slot.high(group), first);
        V::store_int8(slot.high(group) + LANES, second);
    }
    const float sum = sum_of<V>(V::add(first, second));  // below 2 ** 24, so exact
    *slot.scale(group) = scale;
    *slot.offset(group) = scale * sum;
    *slot.sum(group) = static_cast<int32_t>(sum);
}

// `x` must be readable and 0 up to the next multiple of 32.
template <class V> void quantise(const float *x, int cols, const Activations &to, int row) {
    for (int group = 0; group * GROUP < cols; group++) quantise_group<V>(x + group * GROUP, to, row, group);
}

// dots[t] += 16 rows' weights, a register, x four numbers of each token.
template <class V, int FORMAT, int N> void add_dots(typename V::I *dots, typename V::B w, const Four *x) {
    for (int t = 0; t < N; t++) dots[t] = FORMAT == FP_Q4 ? V::dot_small(dots[t], w, x[8 * t]) : V::dot(dots[t], w, x[8 * t]);
}

// The first of 64 numbers of 4 bits from their upper and lower 2 bits; those after them lie 2 bits higher.
template <class V, int FORMAT, int AT> typename V::B number(typename V::B upper, typename V::B lower) {
    const auto high = V::template shifted<AT == 0 ? -2 : 2 * AT - 2, 12>(upper);
    return FORMAT == FP_Q2 ? high : V::either(high, V::template shifted<2 * AT, 3>(lower));
}

// The dot products of one tile of FP_Q22 or FP_Q2.
template <class V, int FORMAT, bool FINE, int N>
void nested(typename V::I *dots, typename V::I *fine, const uint8_t *tile, const uint8_t *below, const Four *high, const Four *low) {
    for (int line = 0; line < 2; line++, high += 4, low += 4) {
        const auto upper = V::load_bytes(tile + 64 * line), lower = FORMAT == FP_Q2 ? upper : V::load_bytes(below + 64 * line);
        const auto next = [&](auto numbers, int at) {
            add_dots<V, FP_Q4, N>(dots, numbers, high + at);
            if constexpr (FINE) add_dots<V, FP_Q4, N>(fine, numbers, low + at);
        };
        next(number<V, FORMAT, 0>(upper, lower), 0);
        next(number<V, FORMAT, 1>(upper, lower), 1);
        next(number<V, FORMAT, 2>(upper, lower), 2);
        next(number<V, FORMAT, 3>(upper, lower), 3);
    }
}

// 16 rows of weights for the first N tokens of a block; `out` is [N][16]. What a token gets does not depend on N.
template <class V, int FORMAT, bool FINE, int N>
void strip(const uint8_t *tile, const uint8_t *below, int groups, const uint8_t *block, float *out) {
    constexpr int bytes = tile_bytes(FORMAT);
    constexpr bool in_two = FORMAT == FP_Q22 || FORMAT == FP_Q2;
    constexpr int scales = in_two ? 128 : FORMAT == FP_Q4 ? 256 : 512;
    constexpr int ahead = 4096;
    typename V::F sums[N];
    for (int t = 0; t < N; t++) sums[t] = V::zero();
    for (int g = 0; g < groups; g++, tile += bytes, block += GROUP_BYTES) {
        for (int line = 0; line < bytes; line += 64) V::ask_for(tile + ahead + line);
        const auto *high = reinterpret_cast<const Four *>(block), *low = high + HALF_BYTES / 4;
        const auto *scale = reinterpret_cast<const float *>(block + 2 * HALF_BYTES);
        const auto *sum = reinterpret_cast<const int32_t *>(scale + 2 * MOST_AT_ONCE);
        typename V::I dots[N], fine[N];
        for (int t = 0; t < N; t++) {
            dots[t] = V::none();
            fine[t] = FORMAT == FP_Q8 ? V::all(-128 * sum[t]) : V::none();
        }
        if constexpr (in_two) {
            nested<V, FORMAT, FINE, N>(dots, fine, tile, below, high, low);
            below += LOW_BYTES;
        }
#pragma GCC unroll 4  // a twentieth of the time of a long prompt
        for (int j = 0; j < (in_two ? 0 : 4); j++) {
            const auto some = V::load_bytes(tile + 64 * j);
            const auto first = FORMAT == FP_Q4 ? V::low_nibbles(some) : some;
            const auto second = FORMAT == FP_Q4 ? V::high_nibbles(some) : V::load_bytes(tile + 64 * (j + 4));
            add_dots<V, FORMAT, N>(dots, first, high + j);
            if constexpr (FINE) add_dots<V, FORMAT, N>(fine, first, low + j);
            add_dots<V, FORMAT, N>(dots, second, high + 4 + j);
            if constexpr (FINE) add_dots<V, FORMAT, N>(fine, second, low + 4 + j);
        }
        const auto d = V::load_half(tile + scales);
        for (int t = 0; t < N; t++) {
            const auto dot = V::add(FINE ? V::times_256(dots[t]) : dots[t], fine[t]);
            sums[t] = V::fma(V::to_float(dot), V::mul(d, V::all(scale[t])), sums[t]);
        }
        if constexpr (FORMAT != FP_Q8) {
            auto m = V::load_half(tile + scales + 32);
            if constexpr (FORMAT == FP_Q2) m = V::fma(d, V::all(1.5f), m);
            for (int t = 0; t < N; t++) sums[t] = V::fma(m, V::all(scale[MOST_AT_ONCE + t]), sums[t]);
        }
    }
    for (int t = 0; t < N; t++) V::store(out + t * LANES, sums[t]);
}

template <class V, int FORMAT, bool FINE>
void strip(const uint8_t *tile, const uint8_t *below, int groups, const uint8_t *block, int n, float *out) {
    switch (n) {
        case 1: return strip<V, FORMAT, FINE, 1>(tile, below, groups, block, out);
        case 2: return strip<V, FORMAT, FINE, 2>(tile, below, groups, block, out);
        case 3: return strip<V, FORMAT, FINE, 3>(tile, below, groups, block, out);
        case 4: return strip<V, FORMAT, FINE, 4>(tile, below, groups, block, out);
        case 5: return strip<V, FORMAT, FINE, 5>(tile, below, groups, block, out);
        case 6: return strip<V, FORMAT, FINE, 6>(tile, below, groups, block, out);
        case 7: return strip<V, FORMAT, FINE, 7>(tile, below, groups, block, out);
        default: return strip<V, FORMAT, FINE, 8>(tile, below, groups, block, out);
    }
}

template <class V, bool FINE>
void strip(int format, const uint8_t *tile, const uint8_t *below, int groups, const uint8_t *block, int n, float *out) {
    switch (format) {
        case FP_Q4: return strip<V, FP_Q4, FINE>(tile, below, groups, block, n, out);
        case FP_Q8: return strip<V, FP_Q8, FINE>(tile, below, groups, block, n, out);
        case FP_Q22: return strip<V, FP_Q22, FINE>(tile, below, groups, block, n, out);
        case FP_Q2: return strip<V, FP_Q2, FINE>(tile, below, groups, block, n, out);
        default: return strip<V, FP_Q8M, FINE>(tile, below, groups, block, n, out);
    }
}

// The same with weights of bfloat16, for activations that are not rounded.
template <class V> void strip_of_floats(const uint8_t *tile, int cols, const float *x, size_t width, int n, float *out) {
    typename V::F sums[MOST_AT_ONCE];
    for (int t = 0; t < n; t++) sums[t] = V::zero();
    for (int i = 0; i < cols; i++) {
        const auto w = V::load_bfloat16(tile + 2 * LANES * static_cast<size_t>(i));
        for (int t = 0; t < n; t++) sums[t] = V::fma(w, V::all(x[t * width + i]), sums[t]);
    }
    for (int t = 0; t < n; t++) V::store(out + t * LANES, sums[t]);
}

// Strip `index` of a matrix for `n` rows from `first`, a multiple of 8.
template <class V>
void strip(const fp_matrix &matrix, int index, const Activations &rows, int first, int n, float *out) {
    const int groups = padded(matrix.cols, GROUP) / GROUP;
    const uint8_t *tile = matrix.tiles + static_cast<size_t>(index) * groups * tile_bytes(matrix.format);
    const uint8_t *below = matrix.low + static_cast<size_t>(index) * groups * LOW_BYTES;
    if (matrix.format == FP_BF16)
        strip_of_floats<V>(tile, matrix.cols, rows.row(first), rows.width, n, out);
    else if (rows.fine)
        strip<V, true>(matrix.format, tile, below, groups, rows.block(first), n, out);
    else
        strip<V, false>(matrix.format, tile, below, groups, rows.block(first), n, out);
}

// One row of a matrix as numbers: what an embedding looks up. `out` has room for whole groups.
template <class V> void row_of(const fp_matrix &matrix, int row, float *out) {
    const int groups = padded(matrix.cols, GROUP) / GROUP, lane = row % LANES;
    const size_t bytes = tile_bytes(matrix.format);
    const uint8_t *tile = matrix.tiles + static_cast<size_t>(row / LANES) * groups * bytes;
    for (int g = 0; g < groups; g++, tile += bytes, out += GROUP) {
        float d[LANES], m[LANES];
        const uint8_t *scales = tile + (matrix.format == FP_Q4 ? 256 : 512);
        V::store(d, V::load_half(scales));
        if (matrix.format == FP_Q8)
            m[lane] = -128.0f * d[lane];
        else
            V::store(m, V::load_half(scales + 32));
        for (int i = 0; i < GROUP; i++) {
            int q;
            if (matrix.format == FP_Q4) {
                const uint8_t pair = tile[64 * (i % 16 / 4) + 4 * lane + i % 4];
                q = i < 16 ? pair & 15 : pair >> 4;
            } else {
                q = tile[64 * (i / 4) + 4 * lane + i % 4];
            }
            out[i] = d[lane] * static_cast<float>(q) + m[lane];
        }
    }
}

}  // namespace fp
