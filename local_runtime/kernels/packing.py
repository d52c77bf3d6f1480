"""Weights in groups of 32: rounding, the quantised kinds of GGUF, and their way into tiles.

A group is w = d * q + m with unsigned q: Q4 has 16 values, Q8 256 around 128 (m = -128 d), Q8M 256 from a minimum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from local_runtime.kernels.abi import GROUP, LANES, Q4, Q8, Q8M, Matrix
from local_runtime.kernels.library import Kernels

Bytes = npt.NDArray[np.uint8]
Halves = npt.NDArray[np.float16]
Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int32]
_Q4_0, _Q4_1, _Q5_0, _Q5_1, _Q8_0, _Q4_K, _Q5_K = 2, 3, 6, 7, 8, 12, 13
# The forms of the kinds of a GGUF file, by the file's number for them, that keep their groups as they are.
KEPT: Final = MappingProxyType({_Q4_0: Q4, _Q4_1: Q4, _Q5_0: Q8M, _Q5_1: Q8M, _Q8_0: Q8, _Q4_K: Q4, _Q5_K: Q8M})
_PACKED_AS_THEY_ARE: Final = frozenset((_Q4_0, _Q4_1, _Q8_0))


@dataclass(frozen=True, slots=True)
class Groups:
    """`q` uint8 [rows, cols], cols a multiple of 32; `d` and `m` float16 [rows, cols / 32], `m` None with Q8."""

    form: int
    q: Bytes
    d: Halves
    m: Halves | None


@dataclass(frozen=True, slots=True)
class Blocks:
    """Weights of `rows` x `cols` as a GGUF file holds them; `kind` is the file's number for it."""

    kind: int
    data: Bytes
    rows: int
    cols: int


Weights = Groups | Blocks


def form_of(weights: Weights) -> int:
    """Q4, Q8 or Q8M."""
    return weights.form if isinstance(weights, Groups) else KEPT[weights.kind]


def rounded(weights: Floats, form: int) -> Groups:
    """Float32 [rows, cols] as Q4 or Q8, the nearest values that half-precision scales allow."""
    rows, cols = weights.shape
    padded = np.zeros((rows, -(-cols // GROUP) * GROUP), dtype=np.float32)
    padded[:, :cols] = weights
    groups = padded.reshape(rows, -1, GROUP)
    if form == Q8:
        d = (np.abs(groups).max(axis=-1) / 127).astype(np.float16)
        q = np.clip(np.rint(groups * _inverse(d)), -127, 127) + 128
        return Groups(Q8, q.astype(np.uint8).reshape(padded.shape), d, None)
    low, high = groups.min(axis=-1), groups.max(axis=-1)
    m = low.astype(np.float16)
    d = ((high - m) / 15).astype(np.float16)
    q = np.clip(np.rint((groups - m[..., None].astype(np.float32)) * _inverse(d)), 0, 15)
    return Groups(Q4, q.astype(np.uint8).reshape(padded.shape), d, m)


def taken_apart(blocks: Blocks) -> Groups:
    """One of the kinds in `KEPT` as numbers and scales; products of scales are rounded to half precision."""
    return _TAKEN_APART[blocks.kind](blocks)


def of_kind(blocks: Blocks) -> Weights:
    """What `pack` takes: blocks as they are where it knows how, else taken apart."""
    return blocks if blocks.kind in _PACKED_AS_THEY_ARE else taken_apart(blocks)


def widened(weights: Weights) -> Groups:
    """The same weights as Q8M, in which every form can be said."""
    groups = taken_apart(weights) if isinstance(weights, Blocks) else weights
    m = (groups.d.astype(np.float32) * -128).astype(np.float16) if groups.m is None else groups.m
    return Groups(Q8M, groups.q, groups.d, m)


def pack(kernels: Kernels, matrix: Matrix, weights: Weights, to: Rows) -> None:
    """Write rows into a matrix whose tiles are there: row r becomes row `to[r]`."""
    library = kernels.library
    to = np.ascontiguousarray(to, dtype=np.int32)
    if isinstance(weights, Blocks):
        data = np.ascontiguousarray(weights.data)
        library.fp_pack_blocks(matrix.tiles, matrix.cols, weights.kind, data.ctypes.data, weights.rows, to.ctypes.data)
        return
    q, d = np.ascontiguousarray(weights.q), np.ascontiguousarray(weights.d)
    m = None if weights.m is None else np.ascontiguousarray(weights.m)
    library.fp_pack(
        matrix.tiles,
        matrix.cols,
        matrix.format,
        q.ctypes.data,
        d.ctypes.data,
        None if m is None else m.ctypes.data,
        len(q),
        to.ctypes.data,
    )


def pack_bfloat16(kernels: Kernels, matrix: Matrix, weights: Floats, to: Rows) -> None:
    """The same for a matrix of bfloat16; numbers are rounded to the nearest."""
    bits = np.ascontiguousarray(weights, dtype=np.float32).view(np.uint32)
    halves = ((bits + (0x7FFF + (bits >> 16 & 1))) >> 16).astype(np.uint16)
    to = np.ascontiguousarray(to, dtype=np.int32)
    kernels.library.fp_pack_bfloat16(matrix.tiles, matrix.cols, halves.ctypes.data, len(halves), to.ctypes.data)


def split(kernels: Kernels, tiles: Bytes, count: int) -> tuple[Bytes, Bytes]:
    """Tiles of Q4 as those of Q22 and their lower bits."""
    upper, lower = np.zeros(count * 192, np.uint8), np.zeros(count * 128, np.uint8)
    kernels.library.fp_split(tiles.ctypes.data, count, upper.ctypes.data, lower.ctypes.data)
    return upper, lower


def in_turns(rows: int, turn: int) -> Rows:
    """Where rows of gate (turn 0) and up (turn 1) lie: strips of 16 by turns."""
    row = np.arange(rows, dtype=np.int32)
    return (row // LANES * 2 + turn) * LANES + row % LANES


def _inverse(d: Halves) -> Floats:
    wide = d[..., None].astype(np.float32)
    return np.divide(1, wide, out=np.zeros_like(wide), where=wide != 0)


def _q4_0(blocks: Blocks) -> Groups:
    raw = blocks.data.reshape(-1, 18)
    d = _half(raw, 0)
    return _of_blocks(blocks, Q4, _nibbles(raw[:, 2:]), d, (d.astype(np.float32) * -8).astype(np.float16))


def _q4_1(blocks: Blocks) -> Groups:
    raw = blocks.data.reshape(-1, 20)
    return _of_blocks(blocks, Q4, _nibbles(raw[:, 4:]), _half(raw, 0), _half(raw, 2))


def _q8_0(blocks: Blocks) -> Groups:
    raw = blocks.data.reshape(-1, 34)
    return _of_blocks(blocks, Q8, raw[:, 2:] ^ np.uint8(128), _half(raw, 0), None)


def _q5_0(blocks: Blocks) -> Groups:
    raw = blocks.data.reshape(-1, 22)
    d = _half(raw, 0)
    return _of_blocks(blocks, Q8M, _fives(raw[:, 2:]), d, (d.astype(np.float32) * -16).astype(np.float16))


def _q5_1(blocks: Blocks) -> Groups:
    raw = blocks.data.reshape(-1, 24)
    return _of_blocks(blocks, Q8M, _fives(raw[:, 4:]), _half(raw, 0), _half(raw, 2))


def _fives(raw: Bytes) -> Bytes:
    """32 numbers of 5 bits: 4 bytes of fifth bits, then pairs of 4 bits."""
    fifth = np.unpackbits(raw[:, :4], axis=1, bitorder="little")
    return _nibbles(raw[:, 4:]) | np.left_shift(fifth, np.uint8(4))


def _half(raw: Bytes, at: int) -> Halves:
    return np.ascontiguousarray(raw[:, at : at + 2]).view(np.float16)


def _nibbles(pairs: Bytes) -> Bytes:
    return np.concatenate([pairs & 15, pairs >> 4], axis=1)


def _of_blocks(blocks: Blocks, form: int, q: Bytes, d: Halves, m: Halves | None) -> Groups:
    shape = (blocks.rows, blocks.cols // GROUP)
    return Groups(form, q.reshape(blocks.rows, -1), d.reshape(shape), None if m is None else m.reshape(shape))


def _q4_k(blocks: Blocks) -> Groups:
    """Super-blocks of 256: half d and minimum, 8 scales and minima of 6 bits, pairs of 4 bits."""
    raw = blocks.data.reshape(-1, 144)
    pairs = raw[:, 16:].reshape(-1, 4, 1, 32)
    q = np.concatenate([pairs & 15, pairs >> 4], axis=2)
    return _of_super_blocks(blocks, Q4, raw, q)


def _q5_k(blocks: Blocks) -> Groups:
    """As Q4_K, and the fifth bits apart: bit j of a byte is that of group j."""
    raw = blocks.data.reshape(-1, 176)
    pairs = raw[:, 48:].reshape(-1, 4, 1, 32)
    low = np.concatenate([pairs & 15, pairs >> 4], axis=2).reshape(-1, 8, 32)
    fifth = raw[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    return _of_super_blocks(blocks, Q8M, raw, low | fifth << 4)


def _of_super_blocks(blocks: Blocks, form: int, raw: Bytes, q: Bytes) -> Groups:
    halves = np.ascontiguousarray(raw[:, :4]).view(np.float16).astype(np.float32)
    packed = raw[:, 4:16]
    scales = np.concatenate([packed[:, :4] & 63, packed[:, 8:] & 15 | packed[:, :4] >> 6 << 4], axis=1)
    minima = np.concatenate([packed[:, 4:8] & 63, packed[:, 8:] >> 4 | packed[:, 4:8] >> 6 << 4], axis=1)
    shape = (blocks.rows, blocks.cols // GROUP)
    d = (halves[:, :1] * scales).astype(np.float16).reshape(shape)
    m = (-halves[:, 1:] * minima).astype(np.float16).reshape(shape)
    return Groups(form, q.reshape(blocks.rows, blocks.cols), d, m)


_TAKEN_APART: Final = MappingProxyType[int, Callable[[Blocks], Groups]](
    {_Q4_0: _q4_0, _Q4_1: _q4_1, _Q5_0: _q5_0, _Q5_1: _q5_1, _Q8_0: _q8_0, _Q4_K: _q4_k, _Q5_K: _q5_k}
)
