// Weights into tiles.
#include <cstring>

#include "abi.h"
#include "layout.h"

namespace {

// Where row `row` of a matrix has its lane, and what lies there for each group.
class Lane {
  public:
    Lane(uint8_t *tiles, int cols, int format, int row)
        : format_(format),
          lane_(row % fp::LANES),
          groups_(fp::padded(cols, fp::GROUP) / fp::GROUP),
          tiles_(tiles + size_t(row / fp::LANES) * groups_ * fp::tile_bytes(format)) {}

    int groups() const { return groups_; }

    // 32 numbers of 4 bits, those of the first half below those of the second.
    void pairs(int group, const uint8_t *pairs) const {
        for (int j = 0; j < 4; j++) std::memcpy(at(group) + 64 * j + 4 * lane_, pairs + 4 * j, 4);
    }

    void bytes(int group, const uint8_t *numbers) const {
        for (int j = 0; j < 8; j++) std::memcpy(at(group) + 64 * j + 4 * lane_, numbers + 4 * j, 4);
    }

    void scale(int group, uint16_t d) const { std::memcpy(scales(group), &d, 2); }
    void minimum(int group, uint16_t m) const { std::memcpy(scales(group) + 32, &m, 2); }

  private:
    uint8_t *at(int group) const { return tiles_ + group * fp::tile_bytes(format_); }
    uint8_t *scales(int group) const { return at(group) + (format_ == FP_Q4 ? 256 : 512) + 2 * lane_; }

    int format_, lane_, groups_;
    uint8_t *tiles_;
};

uint16_t half_at(const uint8_t *p) {
    uint16_t half;
    std::memcpy(&half, p, 2);
    return half;
}

uint16_t times_minus_8(uint16_t half) {
    _Float16 x;
    std::memcpy(&x, &half, 2);
    x = static_cast<_Float16>(static_cast<float>(x) * -8.0f);
    std::memcpy(&half, &x, 2);
    return half;
}

}  // namespace

// Tiles of FP_Q4 as FP_Q22: upper bits with scales and minima, and lower bits.
FP_OUT void fp_split(const uint8_t *tiles, int count, uint8_t *upper, uint8_t *lower) {
    for (int tile = 0; tile < count; tile++, tiles += 320, upper += 192, lower += 128) {
        std::memset(upper, 0, 128);
        std::memset(lower, 0, 128);
        for (int k = 0; k < 8; k++)
            for (int i = 0; i < 64; i++) {
                const int pair = tiles[64 * (k % 4) + i], number = k < 4 ? pair & 15 : pair >> 4;
                upper[64 * (k / 4) + i] |= static_cast<uint8_t>(number >> 2 << 2 * (k % 4));
                lower[64 * (k / 4) + i] |= static_cast<uint8_t>((number & 3) << 2 * (k % 4));
            }
        std::memcpy(upper + 128, tiles + 256, 64);
    }
}

// Rows of bfloat16 [rows][cols]; row r becomes row to[r].
FP_OUT void fp_pack_bfloat16(uint8_t *tiles, int cols, const uint16_t *numbers, int rows, const int32_t *to) {
    const size_t strip = size_t(fp::padded(cols, fp::GROUP)) * fp::LANES;
    for (int r = 0; r < rows; r++, numbers += cols)
        for (int i = 0; i < cols; i++)
            std::memcpy(tiles + 2 * (to[r] / fp::LANES * strip + size_t(i) * fp::LANES + to[r] % fp::LANES), numbers + i, 2);
}

// Bytes of a matrix in tiles.
FP_OUT size_t fp_matrix_bytes(int rows, int cols, int format) {
    return size_t(fp::padded(rows, fp::LANES)) / fp::LANES * (fp::padded(cols, fp::GROUP) / fp::GROUP) *
           fp::tile_bytes(format);
}

// Rows of numbers, a byte each (4 bits: 0..15), with halves `d` and `m` [rows][groups]; row r becomes row to[r].
FP_OUT void fp_pack(uint8_t *tiles, int cols, int format, const uint8_t *q, const uint16_t *d, const uint16_t *m,
                    int rows, const int32_t *to) {
    for (int r = 0; r < rows; r++) {
        const Lane lane(tiles, cols, format, to[r]);
        for (int g = 0; g < lane.groups(); g++) {
            const size_t group = size_t(r) * lane.groups() + g;
            const uint8_t *numbers = q + group * fp::GROUP;
            if (format == FP_Q4) {
                uint8_t pairs[16];
                for (int i = 0; i < 16; i++) pairs[i] = static_cast<uint8_t>((numbers[i] & 15) | numbers[i + 16] << 4);
                lane.pairs(g, pairs);
            } else {
                lane.bytes(g, numbers);
            }
            lane.scale(g, d[group]);
            if (format != FP_Q8) lane.minimum(g, m[group]);
        }
    }
}

// Rows of GGUF blocks as they are: `kind` 2 (Q4_0), 3 (Q4_1) or 8 (Q8_0). What else there is returns -2.
FP_OUT int fp_pack_blocks(uint8_t *tiles, int cols, int kind, const uint8_t *blocks, int rows, const int32_t *to) {
    if (cols % fp::GROUP || (kind != 2 && kind != 3 && kind != 8)) return -2;
    for (int r = 0; r < rows; r++) {
        const Lane lane(tiles, cols, kind == 8 ? FP_Q8 : FP_Q4, to[r]);
        for (int g = 0; g < lane.groups(); g++) {
            const uint16_t d = half_at(blocks);
            lane.scale(g, d);
            if (kind == 8) {
                uint8_t numbers[32];
                for (int i = 0; i < 32; i++) numbers[i] = blocks[2 + i] ^ 0x80;
                lane.bytes(g, numbers);
                blocks += 34;
            } else if (kind == 3) {
                lane.minimum(g, half_at(blocks + 2));
                lane.pairs(g, blocks + 4);
                blocks += 20;
            } else {
                lane.minimum(g, times_minus_8(d));
                lane.pairs(g, blocks + 2);
                blocks += 18;
            }
        }
    }
    return 0;
}
