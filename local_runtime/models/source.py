"""The seam of every weight file: shapes first, tensors on demand."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol, Self

from local_runtime.kernels.packing import Groups

if TYPE_CHECKING:
    import torch


class TensorSource(Protocol):
    """Named tensors of one model on disk. Opening validates that every tensor lies inside its file."""

    def names(self) -> Collection[str]:
        """Names of all tensors; membership is cheap."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape in torch's order (rows, columns); nothing is read."""

    def read(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        """The tensor, dequantised and converted, in memory of its own."""

    def groups(self, name: str) -> Groups | None:
        """A matrix as the file rounds it; None where it holds it as plain numbers, or otherwise."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...
