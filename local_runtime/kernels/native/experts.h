// Layers with experts: which rows want which, and what they make of them (arXiv:2401.04088).
//
// The rows of an expert lie together; what every expert gives to a row is kept apart and added in the order of the
// row's own ranking, so that it matters neither who else is there nor which expert is ready first.
#pragma once

#include <algorithm>

#include "parts.h"

namespace fp {

template <class V> class Experts : Parts<V> {
  public:
    explicit Experts(Context &context) : Parts<V>(context) {}

    void route(int index) {
        const fp_layer &layer = c.layers[index];
        const int next = m.early ? after(index) : -1;
        for (int r; (r = c.pool->take(1)) < c.rows;) {
            normalise(hidden(r), layer.ffn_norm, normed(r), c.narrow, r);
            if (layer.shared_router) c.factor[r] = sigmoid(dot(normed(r), layer.shared_router));
        }
        c.pool->meet();
        if (c.ahead_of == index)
            each(c.rows, [&](int row) { std::copy_n(ahead(row), layer.experts, scores(row)); });
        else
            each(c.rows * layer.experts, [&](int i) { ask(layer, i, c.scores); });
        c.pool->meet();
        if (next >= 0) {
            each(c.rows * c.layers[next].experts, [&](int i) { ask(c.layers[next], i, c.ahead); });
            c.pool->meet();
        }
        for (int r; (r = c.pool->take(1)) < c.rows;) {
            softmax(scores(r), layer.experts);
            choose(scores(r), layer.experts, c.chosen.data() + r * m.active, c.weights.data() + r * m.active);
        }
        c.pool->meet();
        if (c.pool->take(1) == 0) {
            group();
            c.ahead_of = next;
        }
        c.pool->meet();
    }

    // What a later layer's router would say to the rows as they are now: [rows][experts], by one thread.
    void foresee(int index, float *probabilities) {
        const fp_layer &layer = c.layers[index];
        std::vector<float> x(c.hidden_width);
        for (int r = 0; r < c.rows; r++, probabilities += layer.experts) {
            if (c.ahead_of == index) {
                std::copy_n(ahead(r), layer.experts, probabilities);
                softmax(probabilities, layer.experts);
                continue;
            }
            const float by = inverse_rms(hidden(r), m.hidden);
            for (int i = 0; i < m.hidden; i++) x[i] = hidden(r)[i] * by * layer.ffn_norm[i];
            for (int e = 0; e < layer.experts; e++)
                probabilities[e] = dot(x.data(), layer.router + static_cast<size_t>(e) * m.hidden);
            softmax(probabilities, layer.experts);
        }
    }

    // Rounded rows to where their experts read them.
    void gather() {
        each(static_cast<int>(c.row_of_slot.size()), [&](int slot) {
            if (const int row = c.row_of_slot[slot]; row >= 0) copy(c.narrow, row, c.gathered, slot);
        });
        c.pool->meet();
    }

    // The experts of the jobs in `ready`.
    void compute(const fp_layer &layer) {
        const int jobs = static_cast<int>(c.ready.size());
        if (!jobs) return;
        const int inner = gated_items(layer.expert[c.jobs[c.ready[0]].expert].gate_up);
        each(jobs * inner, [&](int i) {
            const Job &job = c.jobs[c.ready[i / inner]];
            gated(layer.expert[job.expert].gate_up, nullptr, c.gathered, job.first, job.count, i % inner, c.inner);
        });
        c.pool->meet();
        const int strips = padded(m.hidden, LANES) / LANES;
        each(jobs * strips, [&](int i) {
            const Job &job = c.jobs[c.ready[i / strips]];
            const int s = i % strips, width = std::min(LANES, m.hidden - s * LANES);
            alignas(64) float out[MOST_AT_ONCE * LANES];
            for (int t = job.first; t < job.first + job.count; t += MOST_AT_ONCE) {
                const int n = std::min(MOST_AT_ONCE, job.first + job.count - t);
                strip<V>(layer.expert[job.expert].down, s, c.inner, t, n, out);
                for (int k = 0; k < n; k++)
                    std::memcpy(c.part(t + k) + s * LANES, out + k * LANES, width * sizeof(float));
            }
        });
        c.pool->meet();
    }

    void mix() {
        for (int r; (r = c.pool->take(1)) < c.rows;)
            for (int rank = 0; rank < m.active; rank++) {
                const int slot = c.slot_of[r * m.active + rank];
                if (slot < 0) break;
                const float *part = c.part(slot), weight = c.weights[r * m.active + rank];
                for (int i = 0; i < m.hidden; i++) hidden(r)[i] = std::fma(part[i], weight, hidden(r)[i]);
            }
        c.pool->meet();
    }

  private:
    using P = Parts<V>;
    using P::c, P::each, P::gated, P::gated_items, P::hidden, P::inverse_rms, P::m, P::normalise;

    float *normed(int row) const { return c.normed + static_cast<size_t>(row) * c.hidden_width; }
    float *ahead(int row) const { return c.ahead + static_cast<size_t>(row) * c.experts_most; }
    float *scores(int row) const { return c.scores + static_cast<size_t>(row) * c.experts_most; }

    // The next sparse layer, -1: there is none.
    int after(int index) const {
        for (int i = index + 1; i < m.layer_count; i++)
            if (c.layers[i].experts) return i;
        return -1;
    }

    // What the router says to a row about an expert.
    void ask(const fp_layer &layer, int i, float *to) const {
        const int row = i / layer.experts, expert = i % layer.experts;
        to[static_cast<size_t>(row) * c.experts_most + expert] =
            dot(normed(row), layer.router + static_cast<size_t>(expert) * m.hidden);
    }

    float dot(const float *x, const float *y) const {
        auto sum = V::zero();
        int i = 0;
        for (; i + LANES <= m.hidden; i += LANES) sum = V::fma(V::load(x + i), V::load(y + i), sum);
        float total = sum_of<V>(sum);
        for (; i < m.hidden; i++) total = std::fma(x[i], y[i], total);
        return total;
    }

    static float sigmoid(float x) { return 1.0f / (1.0f + exp_one<V>(-x)); }

    static void softmax(float *x, int count) {
        const float most = *std::max_element(x, x + count);
        float sum = 0.0f;
        for (int i = 0; i < count; i++) sum += x[i] = exp_one<V>(x[i] - most);
        for (int i = 0; i < count; i++) x[i] /= sum;
    }

    // The likeliest first, of equals the one with the lower number; -1 behind the last where fewer are enough.
    void choose(float *probabilities, int count, int32_t *chosen, float *weights) const {
        float sum = 0.0f;
        int taken = 0;
        for (; taken < m.active && (taken == 0 || sum < m.top_p); taken++) {
            const int best = static_cast<int>(std::max_element(probabilities, probabilities + count) - probabilities);
            chosen[taken] = best;
            sum += weights[taken] = probabilities[best];
            probabilities[best] = -1.0f;
        }
        for (int i = 0; i < taken; i++)
            weights[i] = m.routed_scale * (m.weighting == 2 ? 1.0f : m.weighting == 1 ? weights[i] / sum : weights[i]);
        std::fill(chosen + taken, chosen + m.active, -1);
    }

    // A job for every expert that is wanted, with slots for its rows; jobs begin at multiples of 8.
    void group() {
        c.jobs.clear();
        std::fill(c.job_of.begin(), c.job_of.end(), -1);
        const int wishes = c.rows * m.active;
        for (int i = 0; i < wishes; i++) {
            const int expert = c.chosen[i];
            if (expert < 0) continue;
            if (c.job_of[expert] < 0) {
                c.job_of[expert] = static_cast<int>(c.jobs.size());
                c.jobs.push_back({expert, 0, 0});
            }
            c.jobs[c.job_of[expert]].count++;
        }
        int slots = 0;
        for (Job &job : c.jobs) {
            job.first = slots;
            slots += padded(job.count, MOST_AT_ONCE);
            job.count = 0;
        }
        c.row_of_slot.assign(slots, -1);
        for (int i = 0; i < wishes; i++) {
            c.slot_of[i] = -1;
            if (c.chosen[i] < 0) continue;
            Job &job = c.jobs[c.job_of[c.chosen[i]]];
            c.slot_of[i] = job.first + job.count++;
            c.row_of_slot[c.slot_of[i]] = i / m.active;
        }
        c.ready.resize(c.jobs.size());
        for (size_t i = 0; i < c.ready.size(); i++) c.ready[i] = static_cast<int>(i);
    }

    void copy(const Activations &from, int row, const Activations &to, int slot) const {
        const int groups = padded(m.hidden, GROUP) / GROUP;
        const Slot a = from.slot(row), b = to.slot(slot);
        for (int g = 0; g < groups; g++) {
            std::memcpy(b.high(g), a.high(g), GROUP);
            std::memcpy(b.low(g), a.low(g), GROUP);
            *b.scale(g) = *a.scale(g);
            *b.offset(g) = *a.offset(g);
            *b.sum(g) = *a.sum(g);
        }
        if (to.floats) std::memcpy(to.row(slot), normed(row), m.hidden * sizeof(float));
    }
};

}  // namespace fp
