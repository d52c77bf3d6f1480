"""The experts of a model in tiles: one after the other into memory, or into files for those that memory can't hold."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from local_runtime.kernels import abi
from local_runtime.kernels.library import Arena, Kernels
from local_runtime.kernels.packing import Bytes, Rows, in_turns, split
from local_runtime.models.expected import expert_names
from local_runtime.models.names import TensorNames
from local_runtime.models.numbers import NumberSource
from local_runtime.models.plans import LOW_TILE_BYTES, TILE_BYTES, Packer, Part, Plan, Shape, as_it_is
from local_runtime.models.spec import ModelSpec

_WIDEST_LAST = (abi.Q4, abi.Q8, abi.Q8M, abi.BF16)


@dataclass(frozen=True, slots=True)
class ExpertShape:
    """Of all experts of a model. `nested`: numbers of 4 bits lie as upper and lower 2 bits, the upper ones first."""

    gate_up: Shape
    down: Shape
    nested: bool = False

    @property
    def planes(self) -> tuple[int, ...]:
        """Bytes of what can be read by itself: all, or upper and lower bits."""
        if not self.nested:
            return (self.gate_up.bytes + self.down.bytes,)
        tiles = self.gate_up.tiles + self.down.tiles
        return tiles * TILE_BYTES[abi.Q22], tiles * LOW_TILE_BYTES

    def at(self, addresses: Sequence[int]) -> abi.Expert:
        """An expert whose planes lie at these addresses."""
        if not self.nested:
            gate_up, down = self.gate_up, self.down
            at = addresses[0]
            return abi.Expert(_matrix(gate_up, at, None), _matrix(down, at + gate_up.bytes, None))
        upper, lower = addresses
        tiles = self.gate_up.tiles
        down_at = upper + tiles * TILE_BYTES[abi.Q22], lower + tiles * LOW_TILE_BYTES
        gate_up, down = (Shape(one.rows, one.cols, abi.Q22) for one in (self.gate_up, self.down))
        return abi.Expert(_matrix(gate_up, upper, lower), _matrix(down, *down_at))


class ExpertPacker:
    """Brings any expert of a model into tiles."""

    def __init__(self, kernels: Kernels, spec: ModelSpec, names: TensorNames, source: NumberSource, form: int) -> None:
        self._kernels = kernels
        self._spec = spec
        self._names = names
        self._source = source
        self._packer = Packer(kernels, source, form)

    def shape(self, *, nested: bool = False) -> ExpertShape:
        """The shape that all experts can have: the widest form among them. Only 4 bits are ever nested."""
        plans = [self._plans(i, 0) for i in self.layers]
        gate_up, down = (self._widest([pair[j] for pair in plans]) for j in (0, 1))
        return ExpertShape(gate_up, down, nested and gate_up.form == down.form == abi.Q4)

    @property
    def layers(self) -> tuple[int, ...]:
        """Which layers have experts."""
        return tuple(i for i, layer in enumerate(self._spec.layers) if layer.sparse)

    @property
    def all_bytes(self) -> int:
        """What all experts take where nothing is nested."""
        count = self._spec.moe.experts if self._spec.moe else 0
        return sum(self.shape().planes) * count * len(self.layers)

    def resident(self, shape: ExpertShape, layer: int, address: int) -> ctypes.Array[abi.Expert]:
        """Pack the layer's experts one after the other from an address on; the layer's table."""
        count = self._spec.moe.experts if self._spec.moe else 0
        table = (abi.Expert * count)()
        for expert in range(count):
            self._pack(shape, layer, expert, address)
            table[expert] = shape.at([address])
            address += shape.planes[0]
        return table

    def planes(self, shape: ExpertShape) -> Iterator[tuple[tuple[int, int], list[Bytes]]]:
        """Every expert as the bytes of its planes, with its layer and number."""
        count = self._spec.moe.experts if self._spec.moe else 0
        whole = shape.gate_up.bytes + shape.down.bytes
        with Arena(self._kernels, whole) as arena:
            tiles = np.ctypeslib.as_array((ctypes.c_uint8 * whole).from_address(arena.address))
            for layer in self.layers:
                for expert in range(count):
                    tiles[:] = 0
                    self._pack(shape, layer, expert, arena.address)
                    yield (layer, expert), self._split(shape, tiles)

    def _split(self, shape: ExpertShape, tiles: Bytes) -> list[Bytes]:
        if not shape.nested:
            return [tiles]
        first = split(self._kernels, tiles, shape.gate_up.tiles)
        second = split(self._kernels, tiles[shape.gate_up.bytes :], shape.down.tiles)
        return [np.concatenate(pair) for pair in zip(first, second, strict=True)]

    def _pack(self, shape: ExpertShape, layer: int, expert: int, address: int) -> None:
        gate_up, down = self._plans(layer, expert)
        self._packer.pack(gate_up, shape.gate_up, address)
        self._packer.pack(down, shape.down, address + shape.gate_up.bytes)

    def _widest(self, plans: Sequence[Plan]) -> Shape:
        shapes = [self._packer.shape(plan) for plan in plans]
        forms = {shape.form for shape in shapes}
        form = forms.pop() if len(forms) == 1 else abi.Q8M
        return Shape(shapes[0].rows, shapes[0].cols, form)

    def _plans(self, layer: int, expert: int) -> tuple[Plan, Plan]:
        """What gate and up, and down, of an expert are made of."""
        moe = self._spec.moe
        width = moe.intermediate if moe else 0
        stored = expert_names(self._names, self._source.names(), layer)
        turns = in_turns(width, 0), in_turns(width, 1)

        def part(name: str, to: Rows) -> Part:
            return Part(name.format(i=layer, e=expert), to, None if "{e}" in name else expert)

        down = [part(stored.down, as_it_is(self._spec.hidden))]
        if stored.gate_up:
            return [part(stored.gate_up, np.concatenate(turns))], down
        return [part(stored.gate, turns[0]), part(stored.up, turns[1])], down


def _matrix(shape: Shape, tiles: int, low: int | None) -> abi.Matrix:
    return abi.Matrix(tiles, low, shape.rows, shape.cols, shape.form, 0)
