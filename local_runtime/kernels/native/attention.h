// Attention over pages of 16 tokens: half keys, transposed [head_dim][16], and half values [16][head_dim].
//
// The past is summed in chunks of 256 positions, counted from the sequence's beginning, and the chunks' sums are merged
// in their order (the associative reduction of arXiv:2405.10480). So a row's result depends on nothing but its own past.
#pragma once

#include <algorithm>
#include <limits>

#include "layout.h"
#include "vectors.h"

namespace fp {

// Even and odd elements are summed apart, for speed; then both.
template <class V, int N>
void scores_of(const uint16_t *keys, int head_dim, const float *const *queries, float *const *scores) {
    typename V::F even[N], odd[N];
    for (int n = 0; n < N; n++) even[n] = odd[n] = V::zero();
    for (int d = 0; d < head_dim; d += 2) {
        const auto k = V::load_half(keys + d * PAGE), next = V::load_half(keys + (d + 1) * PAGE);
        for (int n = 0; n < N; n++) even[n] = V::fma(k, V::all(queries[n][d]), even[n]);
        for (int n = 0; n < N; n++) odd[n] = V::fma(next, V::all(queries[n][d + 1]), odd[n]);
    }
    for (int n = 0; n < N; n++) V::store(scores[n], V::add(even[n], odd[n]));
}

// out[n] = the sum of values, positions `first` to before `last`, by weights [N][CHUNK]; `WIDE` x 16 elements from `at`.
template <class V, int N, int WIDE>
void mix_values(const Pages &pages, const int32_t *table, int head, int first, int last, int at,
                const float (*weights)[CHUNK], int base, float *const *out) {
    typename V::F sums[N][WIDE];
    for (int n = 0; n < N; n++)
        for (int i = 0; i < WIDE; i++) sums[n][i] = V::zero();
    for (int p = first; p < last; p++) {
        const uint16_t *value = pages.values(table[p / PAGE], head) + (p % PAGE) * pages.head_dim + at;
        typename V::F v[WIDE];
        for (int i = 0; i < WIDE; i++) v[i] = V::load_half(value + i * LANES);
        for (int n = 0; n < N; n++) {
            const auto weight = V::all(weights[n][p - base]);
            for (int i = 0; i < WIDE; i++) sums[n][i] = V::fma(v[i], weight, sums[n][i]);
        }
    }
    for (int n = 0; n < N; n++)
        for (int i = 0; i < WIDE; i++) V::store(out[n] + at + i * LANES, sums[n][i]);
}

// Keys or values of one page and head, which are wanted soon.
template <class V> void ask_for_head(const uint16_t *at, int head_dim) {
    for (int i = 0; i < head_dim * PAGE; i += 32) V::ask_for(at + i);
}

// N queries of one key-value head over the positions of one chunk. Query n sees from `from[n]` to before `to[n]`.
// `out[n]` has head_dim elements (a multiple of 16), `parts[n]` says what they are worth; -infinity: nothing was seen.
template <class V, int N>
void chunk(const Pages &pages, const int32_t *table, int head, int base, const float *const *queries, const int *from,
           const int *to, float cap, float *const *out, Partial *parts) {
    alignas(64) float scores[N][CHUNK];
    int first = base + CHUNK, last = base, seen = 0;
    for (int n = 0; n < N; n++) {
        first = std::min(first, std::max(from[n], base));
        last = std::max(last, std::min(to[n], base + CHUNK));
        seen = std::max(seen, to[n]);
    }
    first = first / PAGE * PAGE;
    const int end = std::min((last + PAGE - 1) / PAGE * PAGE, base + CHUNK);
    for (int p = first; p < end; p += PAGE) {
        float *at[N];
        for (int n = 0; n < N; n++) at[n] = scores[n] + (p - base);
        ask_for_head<V>(pages.values(table[p / PAGE], head), pages.head_dim);
        if (p + 2 * PAGE < seen) ask_for_head<V>(pages.keys(table[p / PAGE + 2], head), pages.head_dim);
        scores_of<V, N>(pages.keys(table[p / PAGE], head), pages.head_dim, queries, at);
    }
    constexpr float nothing = -std::numeric_limits<float>::infinity();
    for (int n = 0; n < N; n++) {
        if (cap > 0)
            for (int p = first; p < end; p += PAGE) {
                float *at = scores[n] + (p - base);
                V::store(at, V::mul(tanh_of<V>(V::div(V::load(at), V::all(cap))), V::all(cap)));
            }
        for (int p = first; p < end; p++)
            if (p < from[n] || p >= to[n]) scores[n][p - base] = nothing;
        auto most = V::all(nothing);
        for (int p = first; p < end; p += PAGE) most = V::max(most, V::load(scores[n] + (p - base)));
        parts[n].most = first < end ? max_of<V>(most) : nothing;
        if (!(parts[n].most > nothing)) {
            parts[n] = {nothing, 0.0f};
            for (int p = first; p < end; p++) scores[n][p - base] = 0.0f;
            continue;
        }
        auto sum = V::zero();
        for (int p = first; p < end; p += PAGE) {
            float *at = scores[n] + (p - base);
            const auto weight = exp_of<V>(V::sub(V::load(at), V::all(parts[n].most)));
            V::store(at, weight);
            sum = V::add(sum, weight);
        }
        parts[n].weight = sum_of<V>(sum);
    }
    constexpr int wide = N <= 4 ? 4 : 2;
    int at = 0;
    for (; at + wide * LANES <= pages.head_dim; at += wide * LANES)
        mix_values<V, N, wide>(pages, table, head, first, last, at, scores, base, out);
    for (; at < pages.head_dim; at += LANES)
        mix_values<V, N, 1>(pages, table, head, first, last, at, scores, base, out);
}

template <class V>
void chunk(int n, const Pages &pages, const int32_t *table, int head, int base, const float *const *queries,
           const int *from, const int *to, float cap, float *const *out, Partial *parts) {
    switch (n) {
        case 1: return chunk<V, 1>(pages, table, head, base, queries, from, to, cap, out, parts);
        case 2: return chunk<V, 2>(pages, table, head, base, queries, from, to, cap, out, parts);
        case 3: return chunk<V, 3>(pages, table, head, base, queries, from, to, cap, out, parts);
        case 4: return chunk<V, 4>(pages, table, head, base, queries, from, to, cap, out, parts);
        case 5: return chunk<V, 5>(pages, table, head, base, queries, from, to, cap, out, parts);
        case 6: return chunk<V, 6>(pages, table, head, base, queries, from, to, cap, out, parts);
        case 7: return chunk<V, 7>(pages, table, head, base, queries, from, to, cap, out, parts);
        default: return chunk<V, 8>(pages, table, head, base, queries, from, to, cap, out, parts);
    }
}

// sum += more, both as `chunk` leaves them.
template <class V> void merge(float *sum, Partial &part, const float *more, Partial other, int head_dim) {
    if (!(other.weight > 0.0f)) return;
    const float most = std::max(part.most, other.most);
    const float keep = part.weight > 0.0f ? exp_one<V>(part.most - most) : 0.0f, add = exp_one<V>(other.most - most);
    for (int d = 0; d < head_dim; d += LANES) {
        const auto kept = V::mul(V::load(sum + d), V::all(keep));
        V::store(sum + d, V::fma(V::load(more + d), V::all(add), kept));
    }
    part = {most, part.weight * keep + other.weight * add};
}

}  // namespace fp
