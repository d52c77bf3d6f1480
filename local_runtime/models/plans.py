"""Which tensors become which matrix of the native kernels, and their way there. Knows no file format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from local_runtime.kernels import abi
from local_runtime.kernels.library import Kernels
from local_runtime.kernels.packing import Rows, pack, pack_bfloat16, widened
from local_runtime.models.numbers import NumberSource

TILE_BYTES: Final = MappingProxyType({abi.Q4: 320, abi.Q8: 544, abi.Q8M: 576, abi.Q22: 192, abi.BF16: 1024})
LOW_TILE_BYTES: Final = 128


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a matrix from one tensor, or from matrix `at` of it, and where they go."""

    name: str
    to: Rows
    at: int | None = None


Plan = Sequence[Part]


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a matrix in tiles."""

    rows: int
    cols: int
    form: int

    @property
    def tiles(self) -> int:
        """How many."""
        return -(-self.rows // abi.LANES) * -(-self.cols // abi.GROUP)

    @property
    def bytes(self) -> int:
        """A multiple of 64."""
        return -(-self.tiles * TILE_BYTES[self.form] // 64) * 64


class Packer:
    """`form` is for matrices that the file holds in a kind the kernels don't know (Q4, Q8 or BF16)."""

    def __init__(self, kernels: Kernels, source: NumberSource, form: int) -> None:
        self._kernels = kernels
        self._source = source
        self._form = form

    def shape(self, plan: Plan) -> Shape:
        """What the matrix comes to; parts of different kinds are brought to the widest form."""
        forms = {self._source.form(part.name, self._form) for part in plan}
        if self._form == abi.BF16:
            forms = {abi.BF16}
        rows = max(int(part.to.max()) + 1 for part in plan)
        cols = self._source.shape(plan[0].name)[-1]
        return Shape(rows, cols, forms.pop() if len(forms) == 1 else abi.Q8M)

    def pack(self, plan: Plan, shape: Shape, at: int) -> abi.Matrix:
        """Read the parts and write them at an address, where there are `shape.bytes` of zeroes."""
        matrix = abi.Matrix(at, None, shape.rows, shape.cols, shape.form, 0)
        for part in plan:
            if shape.form == abi.BF16:
                pack_bfloat16(self._kernels, matrix, self._source.floats(part.name, part.at), part.to)
                continue
            weights = self._source.weights(part.name, self._form, part.at)
            mixed = self._source.form(part.name, self._form) != shape.form
            pack(self._kernels, matrix, widened(weights) if mixed else weights, part.to)
        return matrix


def as_it_is(rows: int) -> Rows:
    """All rows where they are."""
    return np.arange(rows, dtype=np.int32)
