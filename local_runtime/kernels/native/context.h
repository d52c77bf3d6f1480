// What one model keeps between steps: threads, keys and values, and buffers for the rows of a step.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "abi.h"
#include "layout.h"
#include "pool.h"

namespace fp {

// Zeroed memory in large pages where the system gives them.
class Arena {
  public:
    explicit Arena(size_t bytes);
    ~Arena();
    Arena(const Arena &) = delete;
    Arena &operator=(const Arena &) = delete;
    uint8_t *data() const { return data_; }
    size_t size() const { return bytes_; }
    void replace(size_t bytes);

  private:
    uint8_t *data_;
    size_t bytes_;
};

struct Context;
struct Encoder;

// An expert and the slots of the rows that want it.
struct Job {
    int expert, first, count;
};

// The kernels of one instruction set.
struct Kernels {
    void (*begin)(Context &, const int32_t *tokens);
    void (*layers)(Context &, const int32_t *which, int count);
    void (*head)(Context &, const int32_t *rows, int count, float *logits);
    // A sparse layer in steps: attention and routes; what all rows take; the jobs that are ready; their sum.
    void (*route)(Context &, int layer);
    void (*foresee)(Context &, int layer, float *probabilities);
    void (*share)(Context &, int layer);
    void (*compute)(Context &, int layer);
    void (*mix)(Context &);
    void (*encode)(Encoder &);
    void (*multiply)(const fp_matrix &, const float *x, int rows, bool fine, float *out);
};

struct Context {
    Context(const fp_model &model, const Kernels &kernels, int pages, int rows_most);

    // A page holds its tokens of all layers, so that a short sequence touches little memory.
    Pages pages_of(int layer) const {
        const size_t head_halves = size_t{2} * PAGE * model.head_dim;
        auto *memory = reinterpret_cast<uint16_t *>(kv.data()) + layer * head_halves * model.kv_heads;
        return {memory, page_halves, head_halves, model.head_dim};
    }

    // Make room for adapters in the step that begins, or do without.
    void adapt(const fp_segment *segments, int count);

    // What an expert gives to the row in a slot.
    float *part(int slot) const { return parts + size_t(slot) * hidden_width; }

    float *turns_of(int row, int rope) const { return turns + (size_t(row) * ROPES + rope) * 2 * model.rotary_dim; }

    fp_model model;
    Kernels kernels;
    std::vector<fp_layer> layers;
    int pages, rows_most, threads = 1;  // threads: of those in the pool, how many compute now
    int hidden_width, qkv_width, mixed_width, ffn_width;
    size_t page_halves;
    std::unique_ptr<Pool> pool;
    int experts_most, slots_most;  // of a layer, and of rows with what they want
    Arena kv, floats, bytes;
    // [rows_most][their width]
    float *hidden, *normed, *qkv, *mixed, *turns, *scores, *ahead, *factor, *parts;
    Activations narrow, wide;     // activations of width hidden or heads, and of the feed-forward's inside
    Activations gathered, inner;  // the same of the experts' slots
    // The rows of the running step.
    int rows = 0;
    std::vector<int> position;
    std::vector<const int32_t *> table;
    std::vector<int> block_of_rows;  // first rows of stretches that share a sequence, at most 8 rows each
    // Of the running sparse layer: [rows][active], and which jobs are to be computed.
    std::vector<int32_t> chosen;
    std::vector<float> weights;
    std::vector<int> slot_of, row_of_slot, job_of, ready;
    std::vector<Job> jobs;
    // Of a step in which some rows wear adapters: whose, null elsewhere; inputs as floats; what is made of them,
    // [rows][most_ranks].
    bool adapted = false;
    int most_ranks = 0;
    std::vector<const fp_lows *> lows;
    std::vector<float> narrow_floats, wide_floats, inside;
    int ahead_of = -1;  // the layer whose router has spoken already, in `ahead`
};

#if defined(__x86_64__) || defined(_M_X64)
Kernels avx512_kernels();
Kernels avx2_kernels();
#endif

}  // namespace fp
