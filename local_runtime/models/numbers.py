"""The seam between weight files and native kernels: vectors as floats, matrices as they lie. Knows no torch."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize

from local_runtime.base import UnsupportedModel
from local_runtime.kernels.packing import KEPT, Blocks, Weights, of_kind, rounded
from local_runtime.models.gguf_file import GgufFile
from local_runtime.models.source import TensorSource

Floats = npt.NDArray[np.float32]


class NumberSource(Protocol):
    """Named tensors of one model on disk, for the native kernels; `at` is one matrix of a tensor that holds several."""

    def names(self) -> Collection[str]:
        """Names of all tensors."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape (rows, columns); nothing is read."""

    def floats(self, name: str, at: int | None = None) -> Floats:
        """The tensor in float32."""

    def form(self, name: str, form: int) -> int:
        """The form in which `weights` gives a matrix."""

    def weights(self, name: str, form: int, at: int | None = None) -> Weights:
        """A matrix in groups of 32, as it lies where the kernels know the kind, else rounded to `form`."""


class GgufNumbers:
    """Of an open GGUF file."""

    def __init__(self, file: GgufFile) -> None:
        self._file = file

    def names(self) -> Collection[str]:
        """See NumberSource."""
        return self._file.tensors.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """See NumberSource."""
        return self._file.tensors[name].shape

    def floats(self, name: str, at: int | None = None) -> Floats:
        """See NumberSource."""
        raw, shape = self._raw(name, at)
        kind = self._file.tensors[name].kind
        if kind is GGMLQuantizationType.F32:
            return raw.view(np.float32).reshape(shape)
        try:
            found = dequantize(raw.reshape(*shape[:-1], -1), kind)
        except NotImplementedError as error:
            raise UnsupportedModel(f"tensor {name!r}: quantisation {kind.name} is not supported") from error
        return cast(Floats, found.astype(np.float32, copy=False).reshape(shape))

    def form(self, name: str, form: int) -> int:
        """See NumberSource."""
        return KEPT.get(int(self._file.tensors[name].kind), form)

    def weights(self, name: str, form: int, at: int | None = None) -> Weights:
        """See NumberSource."""
        kind = int(self._file.tensors[name].kind)
        if kind not in KEPT:
            return rounded(self.floats(name, at), form)
        raw, (rows, cols) = self._raw(name, at)
        return of_kind(Blocks(kind, raw, rows, cols))

    def _raw(self, name: str, at: int | None) -> tuple[npt.NDArray[np.uint8], tuple[int, ...]]:
        """The bytes and the shape of a tensor, or of one of its matrices."""
        raw = np.frombuffer(self._file.bytes_of(name), dtype=np.uint8)
        shape = self._file.tensors[name].shape
        return (raw, shape) if at is None else (raw.reshape(shape[0], -1)[at], shape[1:])


class FloatNumbers:
    """Of a source of floating-point tensors: everything is rounded."""

    def __init__(self, source: TensorSource) -> None:
        self._source = source
        self._several: tuple[str, Floats] | None = None

    def names(self) -> Collection[str]:
        """See NumberSource."""
        return self._source.names()

    def shape(self, name: str) -> tuple[int, ...]:
        """See NumberSource."""
        return self._source.shape(name)

    def floats(self, name: str, at: int | None = None) -> Floats:
        """See NumberSource."""
        import torch

        if at is None:
            return cast(Floats, self._source.read(name, torch.float32).numpy())
        if self._several is None or self._several[0] != name:
            self._several = None
            self._several = name, self.floats(name)
        return cast(Floats, self._several[1][at])

    def form(self, name: str, form: int) -> int:
        """See NumberSource."""
        return form

    def weights(self, name: str, form: int, at: int | None = None) -> Weights:
        """See NumberSource."""
        return rounded(self.floats(name, at), form)
