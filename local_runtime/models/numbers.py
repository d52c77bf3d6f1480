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
    """Named tensors of one model on disk, for the native kernels."""

    def names(self) -> Collection[str]:
        """Names of all tensors."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape (rows, columns); nothing is read."""

    def floats(self, name: str) -> Floats:
        """The tensor in float32."""

    def form(self, name: str, form: int) -> int:
        """The form in which `weights` gives a matrix."""

    def weights(self, name: str, form: int) -> Weights:
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

    def floats(self, name: str) -> Floats:
        """See NumberSource."""
        tensor = self._file.tensors[name]
        raw = np.frombuffer(self._file.bytes_of(name), dtype=np.uint8)
        if tensor.kind is GGMLQuantizationType.F32:
            return raw.view(np.float32).reshape(tensor.shape)
        try:
            found = dequantize(raw.reshape(*tensor.shape[:-1], -1), tensor.kind)
        except NotImplementedError as error:
            raise UnsupportedModel(f"tensor {name!r}: quantisation {tensor.kind.name} is not supported") from error
        return cast(Floats, found.astype(np.float32, copy=False).reshape(tensor.shape))

    def form(self, name: str, form: int) -> int:
        """See NumberSource."""
        return KEPT.get(int(self._file.tensors[name].kind), form)

    def weights(self, name: str, form: int) -> Weights:
        """See NumberSource."""
        tensor = self._file.tensors[name]
        if int(tensor.kind) not in KEPT:
            return rounded(self.floats(name), form)
        rows, cols = tensor.shape
        return of_kind(Blocks(int(tensor.kind), np.frombuffer(self._file.bytes_of(name), dtype=np.uint8), rows, cols))


class FloatNumbers:
    """Of a source of floating-point tensors: everything is rounded."""

    def __init__(self, source: TensorSource) -> None:
        self._source = source

    def names(self) -> Collection[str]:
        """See NumberSource."""
        return self._source.names()

    def shape(self, name: str) -> tuple[int, ...]:
        """See NumberSource."""
        return self._source.shape(name)

    def floats(self, name: str) -> Floats:
        """See NumberSource."""
        import torch

        return cast(Floats, self._source.read(name, torch.float32).numpy())

    def form(self, name: str, form: int) -> int:
        """See NumberSource."""
        return form

    def weights(self, name: str, form: int) -> Weights:
        """See NumberSource."""
        return rounded(self.floats(name), form)
