"""A BERT encoder's weights in the kernels' form, and its forward pass; must know no tokenizer and no model's name."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from local_runtime.base import GenerationError
from local_runtime.kernels.abi import GROUP, Q8, Encoder, EncoderLayer, Matrix
from local_runtime.kernels.library import Arena, Kernels
from local_runtime.kernels.packing import Floats, pack, rounded

MOST_TOKENS: Final = 1024  # of one call; more are no faster each


_ROWS_AT_ONCE: Final = 1024  # that are rounded together: bounds what that takes


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """`window` counts tokens; `fine`: activations of 16 bits, else 8."""

    layers: int
    heads: int
    hidden: int
    epsilon: float
    window: int
    fine: bool


class NativeEncoder:
    """Token ids in, unit vectors out; for one caller at a time. The lock of the interpreter is released meanwhile.

    `tensors` are named as in BERT's checkpoints, weights [outputs, inputs], rounded here to 8 bits in groups of 32.
    Raises GenerationError where there is no memory, or with sizes that the kernels do not know.
    """

    def __init__(self, use: Kernels, tensors: Mapping[str, Floats], shape: EncoderShape, threads: int) -> None:
        self._handle: int | None = None
        self._library, self._shape = use.library, shape
        weights = _Weights(use, tensors, shape)
        self._kept = weights  # the kernels read what lies there
        model = weights.model()
        weights.forget()
        self._handle = use.library.fp_encoder_open(use.level, ctypes.byref(model), MOST_TOKENS, threads)
        if not self._handle:
            raise GenerationError(f"the kernels can't compute an encoder of {shape}: no memory, or sizes not known")

    def vectors(self, rows: Sequence[Sequence[int]]) -> Floats:
        """Vectors [rows, hidden]; rows of 1 to `window` tokens, each of which gets the same vector in any company."""
        vectors = np.empty((len(rows), self._shape.hidden), np.float32)
        done = 0
        for count in _calls([len(row) for row in rows]):
            self._call(rows[done : done + count], vectors[done : done + count])
            done += count
        return vectors

    def close(self) -> None:
        """Give the memory back."""
        handle, self._handle = self._handle, None
        if handle:
            self._library.fp_encoder_close(handle)

    def __del__(self) -> None:
        self.close()

    def _call(self, rows: Sequence[Sequence[int]], out: Floats) -> None:
        ids = np.concatenate([np.asarray(row, np.int32) for row in rows])
        lengths = np.array([len(row) for row in rows], np.int32)
        done = self._library.fp_encode(self._handle, ids.ctypes.data, lengths.ctypes.data, len(rows), out.ctypes.data)
        if done < 0:
            raise ValueError(f"token ids must be known and rows have 1 to {self._shape.window}, not {lengths.tolist()}")


def _calls(lengths: Sequence[int]) -> list[int]:
    """How many rows go into each call."""
    counts: list[int] = []
    room = 0
    for length in lengths:
        if not counts or length > room:
            counts.append(0)
            room = MOST_TOKENS
        counts[-1] += 1
        room -= length
    return counts


class _Weights:
    """Tiles and vectors, kept as long as this object."""

    def __init__(self, use: Kernels, tensors: Mapping[str, Floats], shape: EncoderShape) -> None:
        self._use, self._tensors, self._shape = use, tensors, shape
        self._arena = Arena(use, sum(map(self._bytes, tensors.values())))
        self._used = 0
        self._vectors: list[npt.NDArray[np.float32]] = []
        self._layers = (EncoderLayer * shape.layers)(*(self._layer(index) for index in range(shape.layers)))

    def model(self) -> Encoder:
        """What the kernels are given."""
        shape, words = self._shape, self._tensors["embeddings.word_embeddings.weight"]
        places = self._tensors["embeddings.position_embeddings.weight"][: shape.window]
        return Encoder(
            layers=self._layers,
            words=self._matrix(words),
            places=self._vector(places + self._tensors["embeddings.token_type_embeddings.weight"][0]),
            norm=self._vector(self._tensors["embeddings.LayerNorm.weight"]),
            shift=self._vector(self._tensors["embeddings.LayerNorm.bias"]),
            layer_count=shape.layers,
            hidden=shape.hidden,
            heads=shape.heads,
            intermediate=len(self._tensors["encoder.layer.0.intermediate.dense.bias"]),
            vocab=len(words),
            window=shape.window,
            fine=shape.fine,
            eps=shape.epsilon,
        )

    def forget(self) -> None:
        """Let go of the numbers that tiles were made of."""
        self._tensors = {}

    def _layer(self, index: int) -> EncoderLayer:
        name = f"encoder.layer.{index}"
        dense = {
            "qkv": tuple(f"{name}.attention.self.{part}" for part in ("query", "key", "value")),
            "out": (f"{name}.attention.output.dense",),
            "wide": (f"{name}.intermediate.dense",),
            "narrow": (f"{name}.output.dense",),
        }
        norms = {"attn": f"{name}.attention.output.LayerNorm", "ffn": f"{name}.output.LayerNorm"}
        return EncoderLayer(
            **{field: self._matrix(self._joined(parts, "weight")) for field, parts in dense.items()},
            **{f"{field}_bias": self._vector(self._joined(parts, "bias")) for field, parts in dense.items()},
            **{f"{field}_norm": self._vector(self._tensors[f"{norm}.weight"]) for field, norm in norms.items()},
            **{f"{field}_shift": self._vector(self._tensors[f"{norm}.bias"]) for field, norm in norms.items()},
        )

    def _joined(self, names: Sequence[str], what: str) -> Floats:
        return np.concatenate([self._tensors[f"{name}.{what}"] for name in names])

    def _matrix(self, weights: Floats) -> Matrix:
        rows, cols = weights.shape
        if cols % GROUP:
            raise GenerationError(
                f"the kernels can't compute an encoder with {cols} columns: not a multiple of {GROUP}"
            )
        matrix = Matrix(self._arena.address + self._used, None, rows, cols, Q8, 0)
        self._used += self._bytes(weights)
        for first in range(0, rows, _ROWS_AT_ONCE):
            some = rounded(weights[first : first + _ROWS_AT_ONCE], Q8)
            pack(self._use, matrix, some, np.arange(first, first + len(some.q), dtype=np.int32))
        return matrix

    def _bytes(self, weights: Floats) -> int:
        """Of a matrix in tiles, in whole lines of the cache."""
        if weights.ndim != 2:
            return 0
        size: int = self._use.library.fp_matrix_bytes(*weights.shape, Q8)
        return -(-size // 64) * 64

    def _vector(self, values: Floats) -> int:
        kept = np.ascontiguousarray(values, np.float32)
        self._vectors.append(kept)
        return kept.ctypes.data
