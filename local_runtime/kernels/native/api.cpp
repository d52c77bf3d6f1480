// The C interface: see abi.h. Functions that can fail return 0 or a number below it; none throws.
#include "abi.h"

#include <algorithm>
#include <memory>
#include <new>
#include <system_error>

#include "context.h"
#include "levels.h"

namespace {

enum { BAD_ARGUMENT = -2, NO_KERNELS = -3, NO_THREADS = -4 };

}  // namespace

namespace fp {

int level_up_to(int most) {
#if defined(__x86_64__) || defined(_M_X64)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vnni");
    return avx512 && most >= 3 ? 3 : avx2 && most >= 2 ? 2 : 0;
#else
    (void)most;
    return 0;
#endif
}

Kernels kernels_of(int level) {
#if defined(__x86_64__) || defined(_M_X64)
    return level == 3 ? avx512_kernels() : avx2_kernels();
#else
    return {};
#endif
}

}  // namespace fp

FP_OUT int fp_level(int most) { return fp::level_up_to(most); }

// out [rows][matrix.rows] = matrix x [rows][matrix.cols], by one thread.
FP_OUT int fp_multiply(int level, const fp_matrix *matrix, const float *x, int rows, int fine, float *out) {
    if (fp::level_up_to(level) != level || !level) return NO_KERNELS;
    fp::kernels_of(level).multiply(*matrix, x, rows, fine != 0, out);
    return 0;
}

// Huge pages where there are any; zeroed. Null when there is no memory.
FP_OUT void *fp_arena(size_t bytes) {
    try {
        return new fp::Arena(bytes);
    } catch (const std::bad_alloc &) {
        return nullptr;
    }
}

FP_OUT void *fp_arena_data(void *arena) { return static_cast<fp::Arena *>(arena)->data(); }

FP_OUT void fp_arena_free(void *arena) { delete static_cast<fp::Arena *>(arena); }

// Room for `pages` pages of keys and values in every layer and for steps of up to `rows_most` rows.
FP_OUT void *fp_open(int level, const fp_model *model, int pages, int rows_most) {
    if (fp::level_up_to(level) != level || !level) return nullptr;
    try {
        return new fp::Context(*model, fp::kernels_of(level), pages, rows_most);
    } catch (const std::bad_alloc &) {
        return nullptr;
    }
}

FP_OUT void fp_close(void *context) { delete static_cast<fp::Context *>(context); }

// Compute with so many threads from now on; the first call with a larger number starts them.
FP_OUT int fp_threads(void *context, int threads) {
    auto &c = *static_cast<fp::Context *>(context);
    try {
        if (threads > c.pool->most()) c.pool = std::make_unique<fp::Pool>(threads);
    } catch (const std::system_error &) {
        return NO_THREADS;
    }
    c.threads = threads;
    return 0;
}

// Begin a step: embed `tokens`, one for each row of the segments.
FP_OUT int fp_begin(void *context, const fp_segment *segments, int count, const int32_t *tokens) {
    auto &c = *static_cast<fp::Context *>(context);
    int rows = 0;
    for (int s = 0; s < count; s++) {
        if (segments[s].rows < 1 || segments[s].start < 0 || segments[s].rows > c.rows_most - rows) return BAD_ARGUMENT;
        rows += segments[s].rows;
        const int pages = (segments[s].start + segments[s].rows + fp::PAGE - 1) / fp::PAGE;
        for (int p = 0; p < pages; p++)
            if (segments[s].pages[p] < 0 || segments[s].pages[p] >= c.pages) return BAD_ARGUMENT;
    }
    for (int r = 0; r < rows; r++)
        if (tokens[r] < 0 || tokens[r] >= c.model.vocab) return BAD_ARGUMENT;
    c.rows = rows;
    c.ahead_of = -1;
    c.adapt(segments, count);
    c.position.clear();
    c.table.clear();
    c.block_of_rows.clear();
    for (int s = 0; s < count; s++)
        for (int r = 0; r < segments[s].rows; r++) {
            if (r % fp::ROWS_TOGETHER == 0) c.block_of_rows.push_back(static_cast<int>(c.position.size()));
            c.position.push_back(segments[s].start + r);
            c.table.push_back(segments[s].pages);
        }
    c.block_of_rows.push_back(rows);
    c.kernels.begin(c, tokens);
    return 0;
}

// Take all rows through `count` layers, in this order.
FP_OUT int fp_layers(void *context, const int32_t *which, int count) {
    auto &c = *static_cast<fp::Context *>(context);
    for (int i = 0; i < count; i++)
        if (which[i] < 0 || which[i] >= c.model.layer_count) return BAD_ARGUMENT;
    c.kernels.layers(c, which, count);
    return 0;
}

// Attention of a sparse layer. For every row its experts, likeliest first, -1 where it wants fewer, and their weights:
// [rows][active] each.
FP_OUT int fp_route(void *context, int layer, int32_t *chosen, float *weights) {
    auto &c = *static_cast<fp::Context *>(context);
    if (layer < 0 || layer >= c.model.layer_count || !c.layers[layer].experts) return BAD_ARGUMENT;
    c.kernels.route(c, layer);
    const size_t wishes = size_t(c.rows) * c.model.active;
    std::copy_n(c.chosen.data(), wishes, chosen);
    std::copy_n(c.weights.data(), wishes, weights);
    c.ready.clear();
    return 0;
}

// What the router of another sparse layer says to the rows as they are now: [rows][experts]. Before fp_share.
FP_OUT int fp_foresee(void *context, int layer, float *probabilities) {
    auto &c = *static_cast<fp::Context *>(context);
    if (layer < 0 || layer >= c.model.layer_count || !c.layers[layer].experts) return BAD_ARGUMENT;
    c.kernels.foresee(c, layer, probabilities);
    return 0;
}

// What all rows take beside their experts.
FP_OUT int fp_share(void *context, int layer) {
    auto &c = *static_cast<fp::Context *>(context);
    c.kernels.share(c, layer);
    return 0;
}

// Compute some of the experts that rows of the routed layer want: their tiles must be there.
FP_OUT int fp_experts(void *context, int layer, const int32_t *which, int count) {
    auto &c = *static_cast<fp::Context *>(context);
    c.ready.clear();
    for (int i = 0; i < count; i++) {
        if (which[i] < 0 || which[i] >= c.layers[layer].experts || c.job_of[which[i]] < 0) return BAD_ARGUMENT;
        c.ready.push_back(c.job_of[which[i]]);
    }
    c.kernels.compute(c, layer);
    return 0;
}

// Add what the experts have made of the rows, after all of them.
FP_OUT int fp_mix(void *context) {
    auto &c = *static_cast<fp::Context *>(context);
    c.kernels.mix(c);
    return 0;
}

// Logits [count][vocab] of some rows.
FP_OUT int fp_head(void *context, const int32_t *rows, int count, float *logits) {
    auto &c = *static_cast<fp::Context *>(context);
    if (count > c.rows_most) return BAD_ARGUMENT;
    for (int i = 0; i < count; i++)
        if (rows[i] < 0 || rows[i] >= c.rows) return BAD_ARGUMENT;
    c.kernels.head(c, rows, count, logits);
    return 0;
}