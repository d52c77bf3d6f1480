// What an encoder of whole texts keeps between calls, and the texts of the running one.
#pragma once

#include <memory>
#include <vector>

#include "context.h"

namespace fp {

struct Encoder {
    Encoder(const fp_encoder &model, const Kernels &kernels, int rows_most, int threads);

    float *row(int row) const { return hidden + size_t(row) * model.hidden; }
    float *row_of_qkv(int row) const { return qkv + size_t(row) * 3 * model.hidden; }
    int head_dim() const { return model.hidden / model.heads; }

    fp_encoder model;
    Kernels kernels;
    std::vector<fp_encoder_layer> layers;
    int rows_most, threads;
    std::unique_ptr<Pool> pool;
    size_t scratch_width;
    Arena floats, bytes;
    float *hidden, *qkv, *scratch;  // [rows_most][hidden], [rows_most][3 hidden], [threads][scratch_width]
    Activations narrow, wide;
    // The running call: ids of all texts one after the other, where each text begins and, last, where all end.
    const int32_t *ids = nullptr;
    std::vector<int> begins, place;  // place: of each row in its text
    float *out = nullptr;

    int rows() const { return begins.back(); }
    int texts() const { return static_cast<int>(begins.size()) - 1; }
};

}  // namespace fp
