// An encoder's forward pass: BERT (arXiv:1810.04805) with LayerNorm after each half of a layer, and mean pooling.
// A text's vector depends on nothing but its own tokens.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>

#include "encoder.h"
#include "matmul.h"

namespace fp {

// x * Phi(x) with erf to within 1.5e-7 (Abramowitz and Stegun 7.1.26): max(x, 0) - |x| Phi(-|x|).
template <class V> typename V::F gelu(typename V::F x) {
    const auto size = V::abs(x), z = V::mul(size, V::all(0.70710678f));
    const auto t = V::div(V::all(1.0f), V::fma(z, V::all(0.3275911f), V::all(1.0f)));
    auto p = V::all(1.061405429f);
    p = V::fma(p, t, V::all(-1.453152027f));
    p = V::fma(p, t, V::all(1.421413741f));
    p = V::fma(p, t, V::all(-0.284496736f));
    p = V::fma(p, t, V::all(0.254829592f));
    const auto tail = V::mul(V::mul(p, t), exp_of<V>(V::sub(V::zero(), V::mul(z, z))));
    return V::sub(V::max(x, V::zero()), V::mul(V::mul(V::all(0.5f), size), tail));
}

template <class V> class Encode {
  public:
    Encode(Encoder &encoder, int thread) : e(encoder), m(encoder.model), thread_(thread) {}

    void run() {
        phase(e.rows(), [&](int row) { embed(row); });
        for (const auto &layer : e.layers) {
            phase(m.hidden * 3 / LANES, [&](int strip) { project(layer, strip); });
            phase(e.texts() * m.heads, [&](int item) { attend(item / m.heads, item % m.heads); });
            phase(m.hidden / LANES, [&](int strip) { add(layer.out, layer.out_bias, e.narrow, strip); });
            phase(e.rows(), [&](int row) { normalise(layer.attn_norm, layer.attn_shift, row); });
            phase(m.intermediate / GROUP, [&](int group) { widen(layer, group); });
            phase(m.hidden / LANES, [&](int strip) { add(layer.narrow, layer.narrow_bias, e.wide, strip); });
            phase(e.rows(), [&](int row) { normalise(layer.ffn_norm, layer.ffn_shift, row); });
        }
        phase(e.texts(), [&](int text) { pool(text); });
    }

  private:
    // `work(i)` for every i below `count`, in no order; all threads are done with it when it ends.
    template <class Work> void phase(int count, Work work) {
        const int threads = e.pool->threads(), step = threads == 1 ? count : std::max(1, count / (threads * 6));
        for (int i; (i = e.pool->take(step)) < count;)
            for (int last = std::min(i + step, count); i < last; i++) work(i);
        e.pool->meet();
    }

    // `done(row, products)` gets 16 products of every row with a strip of the matrix.
    template <class Done> void multiply(const fp_matrix &matrix, const Activations &from, int index, Done done) {
        alignas(64) float out[MOST_AT_ONCE * LANES];
        for (int first = 0; first < e.rows(); first += MOST_AT_ONCE) {
            const int n = std::min(MOST_AT_ONCE, e.rows() - first);
            strip<V>(matrix, index, from, first, n, out);
            for (int i = 0; i < n; i++) done(first + i, V::load(out + i * LANES));
        }
    }

    void embed(int row) {
        float *x = e.row(row);
        row_of<V>(m.words, e.ids[row], x);
        const float *place = m.places + size_t(e.place[row]) * m.hidden;
        for (int i = 0; i < m.hidden; i += LANES) V::store(x + i, V::add(V::load(x + i), V::load(place + i)));
        normalise(m.norm, m.shift, row);
    }

    // LayerNorm (arXiv:1607.06450), then rounded for what comes next.
    void normalise(const float *weight, const float *shift, int row) {
        float *x = e.row(row);
        auto sum = V::zero(), squares = V::zero();
        for (int i = 0; i < m.hidden; i += LANES) sum = V::add(sum, V::load(x + i));
        const auto mean = V::all(sum_of<V>(sum) / static_cast<float>(m.hidden));
        for (int i = 0; i < m.hidden; i += LANES) {
            const auto off = V::sub(V::load(x + i), mean);
            squares = V::fma(off, off, squares);
        }
        const auto by = V::all(1.0f / std::sqrt(sum_of<V>(squares) / static_cast<float>(m.hidden) + m.eps));
        for (int i = 0; i < m.hidden; i += LANES) {
            const auto scaled = V::mul(V::mul(V::sub(V::load(x + i), mean), by), V::load(weight + i));
            V::store(x + i, V::add(scaled, V::load(shift + i)));
        }
        quantise<V>(x, m.hidden, e.narrow, row);
    }

    void project(const fp_encoder_layer &layer, int index) {
        const auto bias = V::load(layer.qkv_bias + index * LANES);
        multiply(layer.qkv, e.narrow, index, [&](int row, typename V::F products) {
            V::store(e.row_of_qkv(row) + index * LANES, V::add(products, bias));
        });
    }

    void add(const fp_matrix &matrix, const float *biases, const Activations &from, int index) {
        const auto bias = V::load(biases + index * LANES);
        multiply(matrix, from, index, [&](int row, typename V::F products) {
            float *x = e.row(row) + index * LANES;
            V::store(x, V::add(V::load(x), V::add(products, bias)));
        });
    }

    // 32 columns of the feed-forward's inside.
    void widen(const fp_encoder_layer &layer, int group) {
        alignas(64) float both[MOST_AT_ONCE][GROUP], out[MOST_AT_ONCE * LANES];
        for (int first = 0; first < e.rows(); first += MOST_AT_ONCE) {
            const int n = std::min(MOST_AT_ONCE, e.rows() - first);
            for (int half = 0; half < 2; half++) {
                const auto bias = V::load(layer.wide_bias + group * GROUP + half * LANES);
                strip<V>(layer.wide, 2 * group + half, e.narrow, first, n, out);
                for (int i = 0; i < n; i++)
                    V::store(both[i] + half * LANES, gelu<V>(V::add(V::load(out + i * LANES), bias)));
            }
            for (int i = 0; i < n; i++) quantise_group<V>(both[i], e.wide, first + i, group);
        }
    }

    // One head of one text: every token sees all of them.
    void attend(int text, int head) {
        const int first = e.begins[text], length = e.begins[text + 1] - first, stride = padded(length, LANES);
        float *keys = e.scratch + thread_ * e.scratch_width, *scores = keys + size_t(e.head_dim()) * stride;
        for (int d = 0; d < e.head_dim(); d++) {
            for (int p = 0; p < length; p++)
                keys[size_t(d) * stride + p] = e.row_of_qkv(first + p)[m.hidden + head * e.head_dim() + d];
            for (int p = length; p < stride; p++) keys[size_t(d) * stride + p] = 0.0f;
        }
        int q = 0;
        for (; q + ENCODED_TOGETHER <= length; q += ENCODED_TOGETHER)
            queries<ENCODED_TOGETHER>(first, length, q, head, keys, scores);
        for (; q < length; q++) queries<1>(first, length, q, head, keys, scores);
    }

    template <int N>
    void queries(int first, int length, int at, int head, const float *keys, float *scores) {
        const int stride = padded(length, LANES), from = head * e.head_dim();
        float inverse[N];
        score<N>(first + at, stride, from, keys, scores);
        for (int n = 0; n < N; n++) inverse[n] = softmax(scores + size_t(n) * stride, length, stride);
        for (int group = 0; group < e.head_dim(); group += GROUP)
            mix<N>(first, length, at, from + group, scores, stride, inverse);
    }

    template <int N> void score(int row, int stride, int from, const float *keys, float *scores) {
        const auto scale = V::all(1.0f / std::sqrt(static_cast<float>(e.head_dim())));
        for (int p = 0; p < stride; p += LANES) {
            typename V::F sums[N];
            for (int n = 0; n < N; n++) sums[n] = V::zero();
            for (int d = 0; d < e.head_dim(); d++) {
                const auto k = V::load(keys + size_t(d) * stride + p);
                for (int n = 0; n < N; n++) sums[n] = V::fma(k, V::all(e.row_of_qkv(row + n)[from + d]), sums[n]);
            }
            for (int n = 0; n < N; n++) V::store(scores + size_t(n) * stride + p, V::mul(sums[n], scale));
        }
    }

    // Leaves e ** (score - the largest); returns the inverse of their sum.
    float softmax(float *scores, int length, int stride) {
        constexpr float nothing = -std::numeric_limits<float>::infinity();
        for (int p = length; p < stride; p++) scores[p] = nothing;
        auto largest = V::all(nothing), sum = V::zero();
        for (int p = 0; p < stride; p += LANES) largest = V::max(largest, V::load(scores + p));
        const auto most = V::all(max_of<V>(largest));
        for (int p = 0; p < stride; p += LANES) {
            const auto weight = exp_of<V>(V::sub(V::load(scores + p), most));
            V::store(scores + p, weight);
            sum = V::add(sum, weight);
        }
        return 1.0f / sum_of<V>(sum);
    }

    // 32 columns of the values of N queries, rounded.
    template <int N>
    void mix(int first, int length, int at, int from, const float *weights, int stride, const float *inverse) {
        typename V::F low[N], high[N];
        for (int n = 0; n < N; n++) low[n] = high[n] = V::zero();
        for (int p = 0; p < length; p++) {
            const float *value = e.row_of_qkv(first + p) + 2 * m.hidden + from;
            const auto v = V::load(value), next = V::load(value + LANES);
            for (int n = 0; n < N; n++) {
                const auto weight = V::all(weights[size_t(n) * stride + p]);
                low[n] = V::fma(v, weight, low[n]);
                high[n] = V::fma(next, weight, high[n]);
            }
        }
        alignas(64) float mixed[GROUP];
        for (int n = 0; n < N; n++) {
            V::store(mixed, V::mul(low[n], V::all(inverse[n])));
            V::store(mixed + LANES, V::mul(high[n], V::all(inverse[n])));
            quantise_group<V>(mixed, e.narrow, first + at + n, from / GROUP);
        }
    }

    // The sum of a text's rows at unit length: the mean differs by a factor only.
    void pool(int text) {
        float *to = e.out + size_t(text) * m.hidden;
        auto squares = V::zero();
        for (int i = 0; i < m.hidden; i += LANES) {
            auto sum = V::zero();
            for (int row = e.begins[text]; row < e.begins[text + 1]; row++) sum = V::add(sum, V::load(e.row(row) + i));
            V::store(to + i, sum);
            squares = V::fma(sum, sum, squares);
        }
        const auto by = V::all(1.0f / std::max(std::sqrt(sum_of<V>(squares)), 1e-12f));
        for (int i = 0; i < m.hidden; i += LANES) V::store(to + i, V::mul(V::load(to + i), by));
    }

    Encoder &e;
    const fp_encoder &m;
    int thread_;
};

}  // namespace fp
