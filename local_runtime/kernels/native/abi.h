// The C interface of the kernels: plain structs that ctypes mirrors (local_runtime/kernels/abi.py).
//
// Weights are tiles of 16 rows x 32 columns, every group of 32 columns of a row with a scale (and a minimum):
//   w = d * q + m,  q unsigned. Activations are rounded to 16 or 8 bits with one scale for 32 columns.
// A row of results is summed in one order only, whatever the batch, the threads and the instruction set are.
#pragma once

#include <cstdint>

#define FP_OUT extern "C" __attribute__((visibility("default")))

extern "C" {

enum fp_format : int32_t {
    FP_Q4 = 0,   // 4 bits, scale and minimum: 256 bytes of pairs, 16 half d, 16 half m
    FP_Q8 = 1,   // 8 bits around 128, scale: 512 bytes, 16 half d; m = -128 d
    FP_Q8M = 2,  // 8 bits, scale and minimum: 512 bytes, 16 half d, 16 half m
    FP_Q22 = 3,  // FP_Q4 in two: the upper 2 bits of each number (128 bytes), d and m; the lower 2 bits lie in `low`
    FP_Q2 = 4,   // FP_Q22 without the lower bits: as if they were 1.5
    FP_BF16 = 5, // column after column of 16 bfloat16; activations stay floats
};

enum fp_activation : int32_t { FP_SILU = 0, FP_GELU_TANH = 1 };

// Rows are padded to 16, columns to 32, with weights that give 0.
struct fp_matrix {
    const uint8_t *tiles;
    const uint8_t *low;  // 128 bytes a tile; of FP_Q22 alone
    int32_t rows;
    int32_t cols;
    int32_t format;
    int32_t unused;
};

// One of a layer's experts; all have the same sizes.
struct fp_expert {
    fp_matrix gate_up, down;
};

// Null pointers where a family has no such tensor. `gate_up` holds strips of 16 rows of gate and up in turns; with
// experts it and `down` are what all rows take beside them, if anything.
struct fp_layer {
    fp_matrix qkv, out, gate_up, down;
    const float *attn_norm, *ffn_norm, *q_norm, *k_norm;
    const float *qkv_bias, *out_bias, *gate_up_bias, *down_bias;
    const float *attn_post_norm, *ffn_post_norm;
    const float *router;         // [experts, hidden]
    const float *shared_router;  // [hidden]; null: what all rows take counts in full
    const fp_expert *expert;     // [experts]; read when it is needed, so that its tiles may change between calls
    int32_t window;              // 0: all
    int32_t experts;             // 0: dense
    int32_t rope;                // which frequencies
    int32_t unused;
};

struct fp_model {
    const fp_layer *layers;
    fp_matrix embed, head;
    const float *norm;
    const float *frequencies[2];  // radians a position, [rotary_dim / 2]; the second where some layers have others
    int32_t layer_count, hidden, heads, kv_heads, head_dim, rotary_dim, intermediate, vocab;
    int32_t activation, fine;  // fine: activations of 16 bits, else 8
    // Experts a row, at most. Their weights: 0 as they are, 1 so that they sum to one, 2 all alike. `early`: each router
    // but the first reads what the sparse layer before it reads.
    int32_t active, expert_width, weighting, early;
    float eps, embed_scale, attn_scale, attn_cap, logit_cap, routed_scale;
    float top_p, rounded_up;  // no more experts than are as likely as this together
};

// One block of an encoder; matrices are those of the checkpoint, rows of query, key and value after each other.
struct fp_encoder_layer {
    fp_matrix qkv, out, wide, narrow;
    const float *qkv_bias, *out_bias, *wide_bias, *narrow_bias;
    const float *attn_norm, *attn_shift, *ffn_norm, *ffn_shift;
};

// A bidirectional encoder with GELU; a head's width and `intermediate` are multiples of 32.
struct fp_encoder {
    const fp_encoder_layer *layers;
    fp_matrix words;
    const float *places;        // [window][hidden]; the token type's own is added
    const float *norm, *shift;  // of the embeddings
    int32_t layer_count, hidden, heads, intermediate, vocab, window, fine, unused;
    float eps, unused_too;
};

// What an adapter adds to a product's outputs: up (down x) (arXiv:2106.09685). `down` [ranks][columns padded to 32],
// `up` [ranks][width], its rows in the matrix's order; no ranks: nothing. Of 16 rows at a time the ranks from the first
// of `spans` to before the second are all that are not 0: [width / 16][2].
struct fp_low {
    const float *down, *up;
    const int32_t *spans;
    int32_t ranks, width;
};

struct fp_lows {
    fp_low qkv, out, gate_up, down;
};

struct fp_adapter {
    const fp_lows *layers;  // [layer_count]
    int32_t most_ranks;     // of one product
    int32_t unused;
};

// Consecutive tokens of one sequence; `pages` are those that hold its keys and values, in order.
struct fp_segment {
    const int32_t *pages;
    int32_t start;
    int32_t rows;
    const fp_adapter *adapter;  // null: the base model
};
}
