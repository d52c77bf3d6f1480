// Buffers of an encoder and its C interface: see abi.h.
#include "encoder.h"

#include <new>
#include <system_error>

#include "levels.h"

namespace fp {
namespace {

size_t up(size_t n, size_t to) { return (n + to - 1) / to * to; }

size_t blocks_of(int rows) { return up(rows, MOST_AT_ONCE) / MOST_AT_ONCE; }

// Keys of a head transposed, and the scores of the queries that are taken together.
size_t scratch_of(const fp_encoder &model) {
    return (size_t(model.hidden) / model.heads + ENCODED_TOGETHER) * padded(model.window, LANES);
}

}  // namespace

Encoder::Encoder(const fp_encoder &model, const Kernels &kernels, int rows_most, int threads)
    : model(model),
      kernels(kernels),
      layers(model.layers, model.layers + model.layer_count),
      rows_most(rows_most),
      threads(threads),
      pool(std::make_unique<Pool>(threads)),
      scratch_width(scratch_of(model)),
      floats(4 * (size_t(rows_most) * 4 * model.hidden + threads * scratch_width)),
      bytes(blocks_of(rows_most) * (block_bytes(model.hidden) + block_bytes(model.intermediate))) {
    hidden = reinterpret_cast<float *>(floats.data());
    qkv = hidden + size_t(rows_most) * model.hidden;
    scratch = qkv + size_t(rows_most) * 3 * model.hidden;
    narrow = {bytes.data(), block_bytes(model.hidden), model.fine != 0};
    wide = {bytes.data() + blocks_of(rows_most) * narrow.stride, block_bytes(model.intermediate), model.fine != 0};
}

}  // namespace fp

// For calls of up to `rows_most` tokens. Null when there is no memory, or with sizes that the kernels do not know.
FP_OUT void *fp_encoder_open(int level, const fp_encoder *model, int rows_most, int threads) {
    if (fp::level_up_to(level) != level || !level || threads < 1 || rows_most < model->window) return nullptr;
    const int head_dim = model->heads > 0 && model->hidden % model->heads == 0 ? model->hidden / model->heads : 1;
    if (head_dim % fp::GROUP || model->intermediate % fp::GROUP) return nullptr;
    try {
        return new fp::Encoder(*model, fp::kernels_of(level), rows_most, threads);
    } catch (const std::bad_alloc &) {
        return nullptr;
    } catch (const std::system_error &) {
        return nullptr;
    }
}

FP_OUT void fp_encoder_close(void *encoder) { delete static_cast<fp::Encoder *>(encoder); }

// Unit vectors [count][hidden] of texts; their ids lie one after the other.
FP_OUT int fp_encode(void *encoder, const int32_t *ids, const int32_t *lengths, int count, float *out) {
    auto &e = *static_cast<fp::Encoder *>(encoder);
    e.begins.assign(1, 0);
    e.place.clear();
    for (int text = 0; text < count; text++) {
        if (lengths[text] < 1 || lengths[text] > e.model.window || lengths[text] > e.rows_most - e.rows()) return -2;
        for (int i = 0; i < lengths[text]; i++) e.place.push_back(i);
        e.begins.push_back(e.rows() + lengths[text]);
    }
    for (int row = 0; row < e.rows(); row++)
        if (ids[row] < 0 || ids[row] >= e.model.vocab) return -2;
    e.ids = ids;
    e.out = out;
    e.kernels.encode(e);
    return 0;
}
