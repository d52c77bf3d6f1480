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
        if (!c.adapted) return;
        const int wide = padded(cols, GROUP), blocks = padded(c.most_ranks, TOGETHER) / TOGETHER;
        each(c.rows * blocks, [&](int item) {
            const int row = item / blocks, first = item % blocks * TOGETHER;
            const fp_low *low = of(layer, product, row);
            if (!low) return;
            for (int j = first; j < std::min(first + TOGETHER, low->ranks); j++)
                inside(row)[j] = dot(low->down + static_cast<size_t>(j) * wide, from.row(row), wide);
        });
        c.pool->meet();
    }

    // Add up to 16 outputs of one row.
    void add(const fp_layer &layer, Product product, int strip, int row, float *out) const {
        if (!c.adapted) return;
        const fp_low *low = of(layer, product, row);
        if (!low) return;
        const float *up = low->up + strip * LANES;
        auto sum = V::load(out);
        for (int j = 0; j < low->ranks; j++, up += low->width) sum = V::fma(V::all(inside(row)[j]), V::load(up), sum);
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

    static float dot(const float *x, const float *y, int count) {
        auto sum = V::zero();
        for (int i = 0; i < count; i += LANES) sum = V::fma(V::load(x + i), V::load(y + i), sum);
        return sum_of<V>(sum);
    }
};

}  // namespace fp
