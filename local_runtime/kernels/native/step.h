// One step of a decoder-only transformer: all rows of a batch through some layers.
//
// Threads run the same code; each phase's items are taken from a common counter, and all meet before the next phase.
#pragma once

#include "adapters.h"
#include "attention.h"
#include "encode.h"
#include "experts.h"

namespace fp {

// ADAPTED: some rows wear adapters.
template <class V, bool ADAPTED> class Step : Parts<V> {
  public:
    explicit Step(Context &context) : Parts<V>(context), adapters(context) {}

    void begin(const int32_t *tokens) {
        for (int r = 0; r < c.rows; r++) {
            float *x = c.hidden + static_cast<size_t>(r) * c.hidden_width;
            row_of<V>(m.embed, tokens[r], x);
            if (m.embed_scale != 1.0f)
                for (int i = 0; i < m.hidden; i++) x[i] *= m.embed_scale;
            for (int rope = 0; rope < ROPES && m.frequencies[rope]; rope++) turn(r, rope);
        }
    }

    void layer(int index) {
        const fp_layer &layer = c.layers[index];
        if (!layer.experts) {
            attention(index, layer);
            feed_forward(layer);
            return;
        }
        route(index);
        shared(layer);
        Experts<V> experts(c);
        experts.gather();
        experts.compute(layer);
        experts.mix();
    }

    void head(const int32_t *wanted, int count, float *logits) {
        for (int r; (r = c.pool->take(1)) < count;)
            normalise(c.hidden + static_cast<size_t>(wanted[r]) * c.hidden_width, m.norm, nullptr, c.narrow, r);
        c.pool->meet();
        multiply(m.head, c.narrow, count, [&](int s, int t, int n, const float *out) {
            const int width = std::min(LANES, m.vocab - s * LANES);
            for (int i = 0; i < n; i++)
                std::memcpy(logits + static_cast<size_t>(t + i) * m.vocab + s * LANES, out + i * LANES,
                            width * sizeof(float));
        });
        if (m.logit_cap > 0) {
            c.pool->meet();
            for (int r; (r = c.pool->take(1)) < count;)
                for (int i = 0; i < m.vocab; i++) {
                    float &x = logits[static_cast<size_t>(r) * m.vocab + i];
                    x = std::tanh(x / m.logit_cap) * m.logit_cap;
                }
        }
    }

    // Attention of a sparse layer, and which experts its rows want.
    void route(int index) {
        attention(index, c.layers[index]);
        Experts<V>(c).route(index);
    }

    // What every row takes beside its experts.
    void shared(const fp_layer &layer) {
        if (!layer.down.tiles) return;
        gate_up<false>(layer);
        add_product(layer.down, c.wide, nullptr, nullptr, layer.shared_router ? c.factor : nullptr);
    }

  private:
    Adapters<V> adapters;
    using P = Parts<V>;
    using P::add_bias, P::c, P::each, P::gated, P::gated_with, P::gated_items, P::hidden, P::inverse_rms, P::m, P::multiply, P::normalise,
        P::share_of;

    void attention(int index, const fp_layer &layer) {
        for (int r; (r = c.pool->take(1)) < c.rows;)
            normalise(hidden(r), layer.attn_norm, nullptr, c.narrow, r);
        c.pool->meet();
        narrow(layer, &fp_lows::qkv, c.narrow, layer.qkv.cols);
        multiply(layer.qkv, c.narrow, c.rows, [&](int s, int t, int n, float *out) {
            for (int i = 0; i < n; i++) {
                if constexpr (ADAPTED) adapters.add(layer, &fp_lows::qkv, s, t + i, out + i * LANES);
                float *to = c.qkv + static_cast<size_t>(t + i) * c.qkv_width + s * LANES;
                add_bias(out + i * LANES, layer.qkv_bias, s, layer.qkv.rows, to);
            }
        });
        c.pool->meet();
        const int per_row = m.heads + 2 * m.kv_heads;
        each(c.rows * per_row, [&](int item) { prepare(index, layer, item / per_row, item % per_row); });
        c.pool->meet();
        attend(index, layer);
        c.pool->meet();
        for (int r; (r = c.pool->take(1)) < c.rows;)
            quantise<V>(c.mixed + static_cast<size_t>(r) * c.mixed_width, m.heads * m.head_dim, c.narrow, r);
        c.pool->meet();
        narrow(layer, &fp_lows::out, c.narrow, layer.out.cols);
        add_product(layer.out, c.narrow, layer.out_bias, layer.attn_post_norm, nullptr, &layer, &fp_lows::out);
    }

    void narrow(const fp_layer &layer, typename Adapters<V>::Product product, const Activations &from, int cols) {
        if constexpr (ADAPTED) adapters.narrow(layer, product, from, cols);
    }

    // hidden += matrix x rows, normalised first where the family does so, or times a factor for each row.
    void add_product(const fp_matrix &matrix, const Activations &rows, const float *bias, const float *norm,
                     const float *factor = nullptr, const fp_layer *adapted = nullptr,
                     typename Adapters<V>::Product product = nullptr) {
        multiply(matrix, rows, c.rows, [&](int s, int t, int n, float *out) {
            for (int i = 0; i < n; i++) {
                if constexpr (ADAPTED)
                    if (adapted) adapters.add(*adapted, product, s, t + i, out + i * LANES);
                if (norm) {
                    add_bias(out + i * LANES, bias, s, matrix.rows, c.normed + (t + i) * size_t(c.hidden_width) + s * LANES);
                    continue;
                }
                float *to = hidden(t + i) + s * LANES;
                float lanes[LANES];
                add_bias(out + i * LANES, bias, s, matrix.rows, lanes);
                const int width = std::min(LANES, matrix.rows - s * LANES);
                const float by = factor ? factor[t + i] : 1.0f;
                for (int j = 0; j < width; j++) to[j] += lanes[j] * by;
            }
        });
        c.pool->meet();
        if (!norm) return;
        for (int r; (r = c.pool->take(1)) < c.rows;) {
            const float *x = c.normed + static_cast<size_t>(r) * c.hidden_width;
            const float by = inverse_rms(x, m.hidden);
            for (int i = 0; i < m.hidden; i++) hidden(r)[i] += x[i] * by * norm[i];
        }
        c.pool->meet();
    }

    // A head of one row: norm and rotation of queries and keys; keys and values go to their page.
    void prepare(int index, const fp_layer &layer, int row, int head) {
        float *x = c.qkv + static_cast<size_t>(row) * c.qkv_width + static_cast<size_t>(head) * m.head_dim;
        const bool is_query = head < m.heads, is_value = head >= m.heads + m.kv_heads;
        if (!is_value) {
            if (const float *norm = is_query ? layer.q_norm : layer.k_norm) {
                const float by = inverse_rms(x, m.head_dim);
                for (int i = 0; i < m.head_dim; i++) x[i] = x[i] * by * norm[i];
            }
            rotate(x, row, layer.rope);
        }
        if (is_query) {
            for (int i = 0; i < m.head_dim; i++) x[i] *= m.attn_scale;
            return;
        }
        const int position = c.position[row], page = c.table[row][position / PAGE];
        const Pages pages = c.pages_of(index);
        alignas(64) uint16_t halves[LANES];
        for (int i = 0; i < m.head_dim; i += LANES) {
            V::store_half(halves, V::load(x + i));
            if (is_value) {
                uint16_t *to = pages.values(page, head - m.heads - m.kv_heads) + (position % PAGE) * m.head_dim + i;
                std::memcpy(to, halves, sizeof halves);
            } else {
                uint16_t *to = pages.keys(page, head - m.heads) + i * PAGE + position % PAGE;
                for (int j = 0; j < LANES; j++) to[j * PAGE] = halves[j];
            }
        }
    }

    // Rotary embedding (arXiv:2104.09864) of pairs that lie side by side.
    void rotate(float *x, int row, int rope) const {
        const float *turns = c.turns_of(row, rope), *other = turns + m.rotary_dim;
        int i = 0;
        for (; i + LANES <= m.rotary_dim; i += LANES) {
            const auto pairs = V::load(x + i);
            const auto turned = V::mul(V::swapped(pairs), V::load(other + i));
            V::store(x + i, V::fma(pairs, V::load(turns + i), turned));
        }
        for (; i < m.rotary_dim; i += 2) {
            const float a = x[i], b = x[i + 1];
            x[i] = std::fma(a, turns[i], b * other[i]);
            x[i + 1] = std::fma(b, turns[i + 1], a * other[i + 1]);
        }
    }

    // Cosines, each twice, then sines, -sin and sin in turns.
    void turn(int row, int rope) {
        float *turns = c.turns_of(row, rope);
        for (int i = 0; i < m.rotary_dim / 2; i++) {
            const float angle = static_cast<float>(c.position[row]) * m.frequencies[rope][i];
            const float cosine = std::cos(angle), sine = std::sin(angle);
            turns[2 * i] = turns[2 * i + 1] = cosine;
            turns[m.rotary_dim + 2 * i] = -sine;
            turns[m.rotary_dim + 2 * i + 1] = sine;
        }
    }

    // Items: rows of one sequence that lie together, one key-value head. A group of queries shares what it reads.
    void attend(int index, const fp_layer &layer) {
        const int blocks = static_cast<int>(c.block_of_rows.size()) - 1, items = blocks * m.kv_heads;
        for (int item; (item = c.pool->take(1)) < items;) {
            const int block = item / m.kv_heads, head = item % m.kv_heads, group = m.heads / m.kv_heads;
            const int first = c.block_of_rows[block], rows = c.block_of_rows[block + 1] - first;
            if (item + 1 < items) ask_for_keys(index, layer, c.block_of_rows[(item + 1) / m.kv_heads], (item + 1) % m.kv_heads);
            for (int q = 0; q < rows * group; q += MOST_QUERIES)
                attend(index, layer, head, first, q, std::min(MOST_QUERIES, rows * group - q));
        }
    }

    // The first that a row sees.
    void ask_for_keys(int index, const fp_layer &layer, int row, int head) const {
        const int from = layer.window ? std::max(0, c.position[row] + 1 - layer.window) : 0;
        ask_for_head<V>(c.pages_of(index).keys(c.table[row][from / PAGE], head), m.head_dim);
    }

    void attend(int index, const fp_layer &layer, int head, int first_row, int first_query, int count) {
        const int group = m.heads / m.kv_heads, dim = m.head_dim;
        const Pages pages = c.pages_of(index);
        const float *queries[MOST_QUERIES];
        float *out[MOST_QUERIES], *some[MOST_QUERIES];
        int from[MOST_QUERIES], to[MOST_QUERIES];
        Partial sums[MOST_QUERIES], parts[MOST_QUERIES];
        alignas(64) float memory[MOST_QUERIES * 512];
        int begin = c.position[first_row], end = 0;
        for (int i = 0; i < count; i++) {
            const int row = first_row + (first_query + i) / group, at = head * group + (first_query + i) % group;
            queries[i] = c.qkv + static_cast<size_t>(row) * c.qkv_width + static_cast<size_t>(at) * dim;
            out[i] = c.mixed + static_cast<size_t>(row) * c.mixed_width + static_cast<size_t>(at) * dim;
            some[i] = memory + static_cast<size_t>(i) * dim;
            to[i] = c.position[row] + 1;
            from[i] = layer.window ? std::max(0, to[i] - layer.window) : 0;
            begin = std::min(begin, from[i]);
            end = std::max(end, to[i]);
            sums[i] = {0.0f, 0.0f};
            std::memset(out[i], 0, dim * sizeof(float));
        }
        for (int base = begin / CHUNK * CHUNK; base < end; base += CHUNK) {
            chunk<V>(count, pages, c.table[first_row], head, base, queries, from, to, m.attn_cap, some, parts);
            for (int i = 0; i < count; i++) merge<V>(out[i], sums[i], some[i], parts[i], dim);
        }
        for (int i = 0; i < count; i++)
            for (int d = 0; d < dim; d += LANES)
                V::store(out[i] + d, V::div(V::load(out[i] + d), V::all(sums[i].weight)));
    }

    void feed_forward(const fp_layer &layer) {
        for (int r; (r = c.pool->take(1)) < c.rows;) normalise(hidden(r), layer.ffn_norm, nullptr, c.narrow, r);
        c.pool->meet();
        narrow(layer, &fp_lows::gate_up, c.narrow, layer.gate_up.cols);
        gate_up<ADAPTED>(layer);
        narrow(layer, &fp_lows::down, c.wide, layer.down.cols);
        add_product(layer.down, c.wide, layer.down_bias, layer.ffn_post_norm, nullptr, &layer, &fp_lows::down);
    }

    template <bool CHANGED> void gate_up(const fp_layer &layer) {
        each(gated_items(layer.gate_up), [&](int item) {
            if constexpr (CHANGED)
                gated_with(layer.gate_up, layer.gate_up_bias, c.narrow, 0, c.rows, item, c.wide, [&](int s, int row, float *out) {
                    adapters.add(layer, &fp_lows::gate_up, s, row, out);
                });
            else
                gated(layer.gate_up, layer.gate_up_bias, c.narrow, 0, c.rows, item, c.wide);
        });
        c.pool->meet();
    }
};

// A step of the kind that its rows need.
template <class V, class Work> void step_of(Context &c, Work work) {
    if (c.adapted)
        work(Step<V, true>(c));
    else
        work(Step<V, false>(c));
}

template <class V> Kernels kernels_for() {
    return {
        [](Context &c, const int32_t *tokens) { Step<V, false>(c).begin(tokens); },
        [](Context &c, const int32_t *which, int count) {
            const auto all = [&](auto step) {
                for (int i = 0; i < count; i++) step.layer(which[i]);
            };
            const std::function<void(int)> work = [&](int) { step_of<V>(c, all); };
            c.pool->run(c.threads, work);
        },
        [](Context &c, const int32_t *rows, int count, float *logits) {
            const std::function<void(int)> work = [&](int) { Step<V, false>(c).head(rows, count, logits); };
            c.pool->run(c.threads, work);
        },
        [](Context &c, int layer) {
            const std::function<void(int)> work = [&](int) { step_of<V>(c, [&](auto step) { step.route(layer); }); };
            c.pool->run(c.threads, work);
        },
        [](Context &c, int layer, float *probabilities) { Experts<V>(c).foresee(layer, probabilities); },
        [](Context &c, int layer) {
            const std::function<void(int)> work = [&](int) {
                Step<V, false>(c).shared(c.layers[layer]);
                Experts<V>(c).gather();
            };
            c.pool->run(c.threads, work);
        },
        [](Context &c, int layer) {
            const std::function<void(int)> work = [&](int) { Experts<V>(c).compute(c.layers[layer]); };
            c.pool->run(c.threads, work);
        },
        [](Context &c) {
            const std::function<void(int)> work = [&](int) { Experts<V>(c).mix(); };
            c.pool->run(c.threads, work);
        },
        [](Encoder &e) {
            const std::function<void(int)> work = [&](int thread) { Encode<V>(e, thread).run(); };
            e.pool->run(e.threads, work);
        },
        [](const fp_matrix &matrix, const float *x, int rows, bool fine, float *out) {
            const int strips = padded(matrix.rows, LANES) / LANES, wide = padded(matrix.cols, GROUP);
            const size_t stride = block_bytes(matrix.cols);
            std::vector<uint8_t> memory(stride * padded(rows, MOST_AT_ONCE) / MOST_AT_ONCE);
            std::vector<float> floats(size_t(rows) * wide), whole(wide);
            const Activations all{memory.data(), stride, fine, floats.data(), size_t(wide)};
            for (int r = 0; r < rows; r++) {
                std::memcpy(whole.data(), x + static_cast<size_t>(r) * matrix.cols, matrix.cols * sizeof(float));
                quantise<V>(whole.data(), matrix.cols, all, r);
            }
            float some[MOST_AT_ONCE * LANES];
            for (int s = 0; s < strips; s++)
                for (int t = 0; t < rows; t += MOST_AT_ONCE) {
                    const int n = std::min(MOST_AT_ONCE, rows - t), width = std::min(LANES, matrix.rows - s * LANES);
                    strip<V>(matrix, s, all, t, n, some);
                    for (int i = 0; i < n; i++)
                        std::memcpy(out + static_cast<size_t>(t + i) * matrix.rows + s * LANES, some + i * LANES,
                                    width * sizeof(float));
                }
        },
    };
}

}  // namespace fp
