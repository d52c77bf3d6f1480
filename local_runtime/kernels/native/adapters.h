// What adapters add to the products of the rows that wear them (LoRA, arXiv:2106.09685), in floats.
//
// A row's sums have one order, whoever else is there; rows without an adapter are left alone.
#pragma once

#include "parts.h"

namespace fp {

template <class V> class Adapters : Parts<V> {
  public:
    using Product = fp_low fp_lows::*;

    explicit Adapters(Context &context) : Parts<V>(context) {}

    // down x of every row, before the product; all threads.
    void narrow(const fp_layer &layer, Product product, const Activations &from, int cols) {
        const int wide = padded(cols, GROUP), blocks = padded(c.most_ranks, TOGETHER) / TOGETHER;
        each(c.rows * blocks, [&](int item) {
            const int row = item / blocks, first = item % blocks * TOGETHER;
            const fp_low *low = of(layer, product, row);
            if (!low) return;
            const float *down = low->down + static_cast<size_t>(first) * wide;
            float *to = inside(row) + first;
            if (low->ranks - first >= TOGETHER) {
                dots<TOGETHER>(down, from.row(row), wide, to);
                return;
            }
            for (int j = 0; j < low->ranks - first; j++) dots<1>(down + static_cast<size_t>(j) * wide, from.row(row), wide, to + j);
        });
        c.pool->meet();
    }

    // Add up to 16 outputs of one row.
    void add(const fp_layer &layer, Product product, int strip, int row, float *out) const {
        const fp_low *low = of(layer, product, row);
        if (!low) return;
        const int first = low->spans[2 * strip], end = low->spans[2 * strip + 1];
        const float *up = low->up + static_cast<size_t>(first) * low->width + strip * LANES, *x = inside(row);
        auto sum = V::load(out);
        for (int j = first; j < end; j++, up += low->width) sum = V::fma(V::all(x[j]), V::load(up), sum);
        V::store(out, sum);
    }

  private:
    using P = Parts<V>;
    using P::c, P::each;
    static constexpr int TOGETHER = 8;

    const fp_low *of(const fp_layer &layer, Product product, int row) const {
        const fp_lows *lows = c.lows[row];
        if (!lows) return nullptr;
        const fp_low *low = &(lows[&layer - c.layers.data()].*product);
        return low->ranks ? low : nullptr;
    }

    float *inside(int row) const { return c.inside.data() + static_cast<size_t>(row) * c.most_ranks; }

    // N rows of `down` times x; each sum has the same order whatever N is.
    template <int N> static void dots(const float *down, const float *x, int wide, float *to) {
        typename V::F sums[N];
        for (int j = 0; j < N; j++) sums[j] = V::zero();
        for (int i = 0; i < wide; i += LANES) {
            const auto some = V::load(x + i);
            for (int j = 0; j < N; j++) sums[j] = V::fma(V::load(down + j * static_cast<size_t>(wide) + i), some, sums[j]);
        }
        for (int j = 0; j < N; j++) to[j] = sum_of<V>(sums[j]);
    }
};

}  // namespace fp
