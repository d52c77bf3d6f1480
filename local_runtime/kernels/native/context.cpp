#include "context.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fp {
namespace {

constexpr size_t HUGE_PAGE = size_t{2} << 20;

size_t up(size_t n, size_t to) { return (n + to - 1) / to * to; }

size_t blocks_of(int rows) { return up(rows, MOST_AT_ONCE) / MOST_AT_ONCE; }

int most_experts(const fp_model &model) {
    int most = 0;
    for (int i = 0; i < model.layer_count; i++) most = std::max(most, int(model.layers[i].experts));
    return most;
}

bool in_floats(const fp_model &model) {
    for (int i = 0; i < model.layer_count; i++)
        if (model.layers[i].experts && model.layers[i].expert->down.format == FP_BF16) return true;
    return false;
}

}  // namespace

Arena::Arena(size_t bytes) : data_(nullptr), bytes_(up(bytes ? bytes : 1, HUGE_PAGE)) {
#if defined(__linux__)
    void *found = mmap(nullptr, bytes_ + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED) throw std::bad_alloc();
    auto at = reinterpret_cast<uintptr_t>(found);
    const uintptr_t aligned = up(at, HUGE_PAGE);
    if (aligned > at) munmap(found, aligned - at);
    munmap(reinterpret_cast<void *>(aligned + bytes_), at + HUGE_PAGE - aligned);
    data_ = reinterpret_cast<uint8_t *>(aligned);
    madvise(data_, bytes_, MADV_HUGEPAGE);
#else
    data_ = static_cast<uint8_t *>(std::aligned_alloc(64, bytes_));
    if (!data_) throw std::bad_alloc();
    std::memset(data_, 0, bytes_);
#endif
}

void Arena::replace(size_t bytes) {
    Arena other(bytes);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
}

Arena::~Arena() {
#if defined(__linux__)
    munmap(data_, bytes_);
#else
    std::free(data_);
#endif
}

Context::Context(const fp_model &given, const Kernels &with, int page_count, int most)
    : model(given),
      kernels(with),
      layers(given.layers, given.layers + given.layer_count),
      pages(page_count),
      rows_most(most),
      hidden_width(padded(given.hidden, GROUP)),
      qkv_width(padded((given.heads + 2 * given.kv_heads) * given.head_dim, GROUP)),
      mixed_width(padded(given.heads * given.head_dim, GROUP)),
      ffn_width(padded(given.intermediate, GROUP)),
      page_halves(size_t(given.layer_count) * given.kv_heads * 2 * PAGE * given.head_dim),
      pool(std::make_unique<Pool>(1)),
      experts_most(most_experts(given)),
      slots_most(most * given.active + (MOST_AT_ONCE - 1) * std::min(experts_most, most * given.active)),
      kv(page_halves * page_count * sizeof(uint16_t)),
      floats(1),
      bytes(1) {
    model.layers = layers.data();
    const bool whole = in_floats(given);
    const size_t rows = most, slots = slots_most, expert_width = padded(given.expert_width, GROUP);
    const size_t width = 2 * size_t(hidden_width) + qkv_width + mixed_width + 2 * ROPES * given.rotary_dim + 2 * experts_most + 1;
    floats.replace((rows * width + slots * (hidden_width + (whole ? hidden_width + expert_width : 0))) * sizeof(float));
    auto *at = reinterpret_cast<float *>(floats.data());
    const auto take = [&at](size_t count) { return std::exchange(at, at + count); };
    hidden = take(rows * hidden_width);
    normed = take(rows * hidden_width);
    qkv = take(rows * qkv_width);
    mixed = take(rows * mixed_width);
    turns = take(rows * 2 * ROPES * given.rotary_dim);
    parts = take(slots * hidden_width);
    float *gathered_floats = whole ? take(slots * hidden_width) : nullptr;
    float *inner_floats = whole ? take(slots * expert_width) : nullptr;
    scores = take(rows * experts_most);
    ahead = take(rows * experts_most);
    factor = take(rows);
    const size_t narrow_block = block_bytes(std::max(hidden_width, mixed_width)), wide_block = block_bytes(ffn_width);
    const size_t gathered_block = block_bytes(hidden_width), inner_block = block_bytes(given.expert_width);
    const size_t blocks = blocks_of(most), slot_blocks = slots / MOST_AT_ONCE + 1;
    bytes.replace(blocks * (narrow_block + wide_block) + slot_blocks * (gathered_block + inner_block));
    uint8_t *byte = bytes.data();
    const bool fine = given.fine != 0;
    narrow = {byte, narrow_block, fine};
    wide = {byte += blocks * narrow_block, wide_block, fine};
    gathered = {byte += blocks * wide_block, gathered_block, fine, gathered_floats, size_t(hidden_width)};
    inner = {byte += slot_blocks * gathered_block, inner_block, fine, inner_floats, expert_width};
    chosen.resize(rows * given.active);
    weights.resize(rows * given.active);
    slot_of.resize(rows * given.active);
    job_of.resize(experts_most);
}

void Context::adapt(const fp_segment *segments, int count) {
    lows.clear();
    most_ranks = 0;
    for (int s = 0; s < count; s++) {
        const fp_adapter *adapter = segments[s].adapter;
        lows.insert(lows.end(), segments[s].rows, adapter ? adapter->layers : nullptr);
        if (adapter) most_ranks = std::max(most_ranks, adapter->most_ranks);
    }
    adapted = most_ranks > 0;
    narrow.floats = wide.floats = nullptr;
    if (!adapted) return;
    narrow.width = std::max(hidden_width, mixed_width);
    wide.width = ffn_width;
    narrow_floats.resize(rows_most * narrow.width);
    wide_floats.resize(rows_most * wide.width);
    inside.resize(size_t(rows_most) * most_ranks);
    narrow.floats = narrow_floats.data();
    wide.floats = wide_floats.data();
}

}  // namespace fp
