#include "context.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fp {
namespace {

constexpr size_t HUGE_PAGE = size_t{2} << 20;

size_t up(size_t n, size_t to) { return (n + to - 1) / to * to; }

size_t blocks_of(int rows) { return up(rows, MOST_AT_ONCE) / MOST_AT_ONCE; }

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
      kv(page_halves * page_count * sizeof(uint16_t)),
      floats(size_t(most) * (2 * size_t(hidden_width) + qkv_width + mixed_width + 2 * ROPES * given.rotary_dim) * sizeof(float)),
      bytes(blocks_of(most) * (block_bytes(std::max(hidden_width, mixed_width)) + block_bytes(ffn_width))) {
    model.layers = layers.data();
    auto *at = reinterpret_cast<float *>(floats.data());
    hidden = at;
    normed = hidden + size_t(most) * hidden_width;
    qkv = normed + size_t(most) * hidden_width;
    mixed = qkv + size_t(most) * qkv_width;
    turns = mixed + size_t(most) * mixed_width;
    narrow = {bytes.data(), block_bytes(std::max(hidden_width, mixed_width)), given.fine != 0};
    wide = {bytes.data() + blocks_of(most) * narrow.stride, block_bytes(ffn_width), given.fine != 0};
}

}  // namespace fp
