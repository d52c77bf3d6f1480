// How weights, activations and pages lie in memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "abi.h"

namespace fp {

constexpr int LANES = 16;  // rows of a tile
constexpr int GROUP = 32;  // columns of a tile
constexpr int MOST_AT_ONCE = 8;  // tokens that share what was unpacked of a tile

inline int padded(int n, int to) { return (n + to - 1) / to * to; }

constexpr size_t tile_bytes(int format) {
    switch (format) {
        case FP_Q4: return 320;
        case FP_Q8: return 544;
        case FP_Q8M: return 576;
        case FP_BF16: return 1024;
        default: return 192;
    }
}

constexpr size_t LOW_BYTES = 128;  // of a tile of FP_Q22, beside those

// Activations of up to 8 tokens that are multiplied together, a group of columns after the other: int16 numbers as
// their high and their low bytes, both signed, [8][32] each, then for each token its scale, scale x sum and sum.
// With 8 bits the low bytes are not used.
constexpr int HALF_BYTES = MOST_AT_ONCE * GROUP;
constexpr int GROUP_BYTES = 2 * HALF_BYTES + MOST_AT_ONCE * 12;

inline size_t block_bytes(int cols) { return size_t(padded(cols, GROUP)) / GROUP * GROUP_BYTES; }

// One token's place.
struct Slot {
    uint8_t *block;
    int lane;

    int8_t *high(int group) const { return reinterpret_cast<int8_t *>(block) + group * GROUP_BYTES + lane * GROUP; }
    int8_t *low(int group) const { return high(group) + HALF_BYTES; }
    float *scale(int group) const { return figures(group) + lane; }
    float *offset(int group) const { return figures(group) + MOST_AT_ONCE + lane; }
    int32_t *sum(int group) const { return reinterpret_cast<int32_t *>(figures(group) + 2 * MOST_AT_ONCE) + lane; }

  private:
    float *figures(int group) const { return reinterpret_cast<float *>(block + group * GROUP_BYTES + 2 * HALF_BYTES); }
};

// Blocks for as many rows as a step has.
struct Activations {
    uint8_t *memory;
    size_t stride;
    bool fine;  // 16 bits, else 8
    float *floats = nullptr;  // the same not rounded, [rows][width], where weights want it
    size_t width = 0;

    float *row(int row) const { return floats + row * width; }
    uint8_t *block(int row) const { return memory + row / MOST_AT_ONCE * stride; }
    Slot slot(int row) const { return {block(row), row % MOST_AT_ONCE}; }
};

constexpr int ROPES = 2;
constexpr int PAGE = 16;
constexpr int CHUNK = 256;
constexpr int MOST_QUERIES = 8;
constexpr int ENCODED_TOGETHER = 4;  // queries of an encoder that share what they read
constexpr int ROWS_TOGETHER = 8;  // of one sequence, that share what they read of the past

// Where the keys of a layer's page and key-value head begin; its values follow.
struct Pages {
    uint16_t *memory;
    size_t page_halves, head_halves;
    int head_dim;

    uint16_t *keys(int page, int head) const { return memory + page * page_halves + head * head_halves; }
    uint16_t *values(int page, int head) const { return keys(page, head) + static_cast<size_t>(head_dim) * PAGE; }
};

// A sum over some of the past of one query: values weighted by e ** (score - most), and the weights' own sum.
struct Partial {
    float most, weight;
};

}  // namespace fp
