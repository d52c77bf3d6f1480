"""Tensors of a GGUF file, dequantised. Knows no model."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Self

import numpy as np
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize

from local_runtime.base import UnsupportedModel
from local_runtime.kernels.abi import Q8
from local_runtime.kernels.packing import KEPT, Blocks, Groups, rounded, taken_apart
from local_runtime.models.gguf_file import GgufFile

_PLAIN = {
    GGMLQuantizationType.F32: torch.float32,
    GGMLQuantizationType.F16: torch.float16,
    GGMLQuantizationType.BF16: torch.bfloat16,
}


class GgufSource:
    """A TensorSource over a GGUF file; Q4_0, Q4_1 and Q8_0 are unpacked here, others by the gguf library."""

    def __init__(self, path: Path) -> None:
        self.file = GgufFile(path)

    def names(self) -> Collection[str]:
        """Names of all tensors."""
        return self.file.tensors.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape in torch's order."""
        return self.file.tensors[name].shape

    def read(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        """The dequantised tensor; sums and products in float32 before the conversion to `dtype`."""
        tensor = self.file.tensors[name]
        raw = torch.frombuffer(bytearray(self.file.bytes_of(name)), dtype=torch.uint8)
        return _dequantise(raw, tensor.kind, name).reshape(tensor.shape).to(dtype)

    def groups(self, name: str) -> Groups | None:
        """See TensorSource."""
        tensor = self.file.tensors[name]
        if len(tensor.shape) != 2 or tensor.kind in _PLAIN:
            return None
        if int(tensor.kind) not in KEPT:
            return rounded(self.read(name, torch.float32).numpy(), Q8)
        raw = np.frombuffer(self.file.bytes_of(name), dtype=np.uint8)
        return taken_apart(Blocks(int(tensor.kind), raw, *tensor.shape))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.__exit__()


def _dequantise(raw: torch.Tensor, kind: GGMLQuantizationType, name: str) -> torch.Tensor:
    if kind in _PLAIN:
        return raw.view(_PLAIN[kind])
    if kind is GGMLQuantizationType.Q4_1:
        blocks = raw.view(-1, 20)
        return torch.addcmul(_half(blocks, 2), _nibbles(blocks[:, 4:]), _half(blocks, 0))
    if kind is GGMLQuantizationType.Q4_0:
        blocks = raw.view(-1, 18)
        return (_nibbles(blocks[:, 2:]) - 8) * _half(blocks, 0)
    if kind is GGMLQuantizationType.Q8_0:
        blocks = raw.view(-1, 34)
        return blocks[:, 2:].contiguous().view(torch.int8).float() * _half(blocks, 0)
    try:
        return torch.from_numpy(dequantize(raw.numpy(), kind).astype(np.float32, copy=False))
    except NotImplementedError as error:
        raise UnsupportedModel(f"tensor {name!r}: quantisation {kind.name} is not supported") from error


def _half(blocks: torch.Tensor, at: int) -> torch.Tensor:
    """The float16 at byte `at` of every block, as float32 [blocks, 1]."""
    return blocks[:, at : at + 2].contiguous().view(torch.float16).float()


def _nibbles(packed: torch.Tensor) -> torch.Tensor:
    """16 bytes hold 32 values: low nibbles are the first 16, high nibbles the last; float32 [blocks, 32]."""
    values = torch.empty(packed.shape[0], 32)
    torch.bitwise_and(packed, 15, out=(low := torch.empty_like(packed)))
    values[:, :16] = low
    values[:, 16:] = packed >> 4
    return values
