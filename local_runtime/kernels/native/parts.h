// What the phases of a step are made of. Threads run the same code and take items from a common counter.
#pragma once

#include <cmath>
#include <cstring>

#include "context.h"
#include "matmul.h"

namespace fp {

template <class V> class Parts {
  protected:
    explicit Parts(Context &context) : c(context), m(context.model) {}

    Context &c;
    const fp_model &m;

    // RMSNorm (arXiv:1910.07467), then int8; also as floats where `floats` is given.
    void normalise(const float *x, const float *weight, float *floats, const Activations &to, int row) {
        alignas(64) float group[GROUP];
        const auto by = V::all(inverse_rms(x, m.hidden));
        for (int i = 0; i < m.hidden; i += GROUP) {
            float *scaled = floats ? floats + i : group;
            scale_by(x + i, weight + i, by, std::min(GROUP, m.hidden - i), scaled);
            quantise_group<V>(scaled, to, row, i / GROUP);
        }
    }

    // Up to 32 elements of x * by * weight, 0 beyond them.
    static void scale_by(const float *x, const float *weight, typename V::F by, int width, float *to) {
        if (width == GROUP) {
            V::store(to, V::mul(V::mul(V::load(x), by), V::load(weight)));
            V::store(to + LANES, V::mul(V::mul(V::load(x + LANES), by), V::load(weight + LANES)));
            return;
        }
        float lanes[LANES];
        V::store(lanes, by);
        for (int i = 0; i < GROUP; i++) to[i] = i < width ? x[i] * lanes[0] * weight[i] : 0.0f;
    }

    float inverse_rms(const float *x, int width) const {
        auto sum = V::zero();
        int i = 0;
        for (; i + LANES <= width; i += LANES) {
            const auto some = V::load(x + i);
            sum = V::fma(some, some, sum);
        }
        float total = sum_of<V>(sum);
        for (; i < width; i++) total += x[i] * x[i];
        return 1.0f / std::sqrt(total / static_cast<float>(width) + m.eps);
    }

    // `done(strip, token, tokens, out)` gets every strip of the product for up to 8 tokens at once.
    template <class Done> void multiply(const fp_matrix &matrix, const Activations &rows, int count, Done done) {
        const int strips = padded(matrix.rows, LANES) / LANES, step = share_of(strips);
        alignas(64) float out[MOST_AT_ONCE * LANES];
        for (int s; (s = c.pool->take(step)) < strips;)
            for (int last = std::min(s + step, strips); s < last; s++)
                for (int t = 0; t < count; t += MOST_AT_ONCE) {
                    const int n = std::min(MOST_AT_ONCE, count - t);
                    strip<V>(matrix, s, rows, t, n, out);
                    done(s, t, n, out);
                }
    }

    int share_of(int items) const {
        const int threads = c.pool->threads();
        return threads == 1 ? items : std::max(1, items / (threads * 6));
    }

    float *hidden(int row) const { return c.hidden + static_cast<size_t>(row) * c.hidden_width; }

    static void add_bias(const float *x, const float *bias, int strip, int rows, float *to) {
        const int width = std::min(LANES, rows - strip * LANES);
        for (int i = 0; i < width; i++) to[i] = x[i] + (bias ? bias[strip * LANES + i] : 0.0f);
    }

    // An item is 32 columns of activation(gate) * up (arXiv:2002.05202): two strips of gate, two of up.
    static int gated_items(const fp_matrix &matrix) { return padded(matrix.rows, 4 * LANES) / (4 * LANES); }

    // One item for `count` rows from `first` on, a multiple of 8, rounded for what comes next.
    void gated(const fp_matrix &matrix, const float *bias, const Activations &rows, int first, int count, int item,
               const Activations &to) {
        const int strips = padded(matrix.rows, LANES) / LANES;
        alignas(64) float gate[MOST_AT_ONCE * LANES], up[MOST_AT_ONCE * LANES], both[MOST_AT_ONCE][GROUP];
        for (int t = first; t < first + count; t += MOST_AT_ONCE) {
            const int n = std::min(MOST_AT_ONCE, first + count - t);
            for (int half = 0; half < 2; half++) {
                const int s = 4 * item + 2 * half;
                if (s >= strips) {
                    for (int i = 0; i < n; i++) std::memset(both[i] + LANES, 0, LANES * sizeof(float));
                    break;
                }
                strip<V>(matrix, s, rows, t, n, gate);
                strip<V>(matrix, s + 1, rows, t, n, up);
                for (int i = 0; i < n; i++) {
                    auto g = V::load(gate + i * LANES), u = V::load(up + i * LANES);
                    if (bias) {
                        g = V::add(g, V::load(bias + s * LANES));
                        u = V::add(u, V::load(bias + (s + 1) * LANES));
                    }
                    V::store(both[i] + half * LANES, V::mul(activated(g), u));
                }
            }
            for (int i = 0; i < n; i++) quantise_group<V>(both[i], to, t + i, item);
        }
    }

    // The same where `change(strip, row, out)` may change products; apart, since the compiler makes the one above faster.
    template <class Change>
    void gated_with(const fp_matrix &matrix, const float *bias, const Activations &rows, int first, int count, int item,
               const Activations &to, Change change) {
        const int strips = padded(matrix.rows, LANES) / LANES;
        alignas(64) float gate[MOST_AT_ONCE * LANES], up[MOST_AT_ONCE * LANES], both[MOST_AT_ONCE][GROUP];
        for (int t = first; t < first + count; t += MOST_AT_ONCE) {
            const int n = std::min(MOST_AT_ONCE, first + count - t);
            for (int half = 0; half < 2; half++) {
                const int s = 4 * item + 2 * half;
                if (s >= strips) {
                    for (int i = 0; i < n; i++) std::memset(both[i] + LANES, 0, LANES * sizeof(float));
                    break;
                }
                strip<V>(matrix, s, rows, t, n, gate);
                strip<V>(matrix, s + 1, rows, t, n, up);
                for (int i = 0; i < n; i++) change(s, t + i, gate + i * LANES);
                for (int i = 0; i < n; i++) change(s + 1, t + i, up + i * LANES);
                for (int i = 0; i < n; i++) {
                    auto g = V::load(gate + i * LANES), u = V::load(up + i * LANES);
                    if (bias) {
                        g = V::add(g, V::load(bias + s * LANES));
                        u = V::add(u, V::load(bias + (s + 1) * LANES));
                    }
                    V::store(both[i] + half * LANES, V::mul(activated(g), u));
                }
            }
            for (int i = 0; i < n; i++) quantise_group<V>(both[i], to, t + i, item);
        }
    }

    // `work(i)` for every i below `count`, in no order.
    template <class Work> void each(int count, Work work) {
        const int step = share_of(count);
        for (int i; (i = c.pool->take(step)) < count;)
            for (int last = std::min(i + step, count); i < last; i++) work(i);
    }

    typename V::F activated(typename V::F x) const { return m.activation == FP_SILU ? silu<V>(x) : gelu_tanh<V>(x); }
};

}  // namespace fp
