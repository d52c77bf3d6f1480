"""All weights of a model in tiles, in one stretch of memory. Knows no file format."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from local_runtime.kernels import abi
from local_runtime.kernels.library import Arena, Kernels
from local_runtime.kernels.packing import Rows, in_turns, pack, widened
from local_runtime.models.expected import check_shapes
from local_runtime.models.names import TensorNames
from local_runtime.models.numbers import Floats, NumberSource
from local_runtime.models.rope import frequencies
from local_runtime.models.spec import ModelSpec

# A tile may be asked for ahead of its use, and a vector register reads a little beyond a vector's end.
_SPARE_BYTES = 8192
_LANE_FLOATS = 16


def not_native(spec: ModelSpec) -> str | None:
    """Why the native kernels can't compute such a model; None where they can."""
    if spec.moe is not None:
        return "it has experts"
    if spec.head_dim % _LANE_FLOATS or spec.head_dim > 512:
        return f"heads of {spec.head_dim} elements are not a multiple of {_LANE_FLOATS} up to 512"
    return None


@dataclass(frozen=True, slots=True)
class NativeWeights:
    """`layers` as the library reads them; `kept` and `arena` own what they point to."""

    layers: ctypes.Array[abi.Layer]
    embed: abi.Matrix
    head: abi.Matrix
    norm: int
    frequencies: int
    arena: Arena
    kept: Sequence[npt.NDArray[np.float32]] = field(repr=False)

    @property
    def bytes(self) -> int:
        """Of all matrices."""
        matrices = [self.embed] if self.head is self.embed else [self.embed, self.head]
        for layer in self.layers:
            matrices += [layer.qkv, layer.out, layer.gate_up, layer.down]
        return sum(_bytes_of(matrix.rows, matrix.cols, matrix.format) for matrix in matrices)


def load_native(
    kernels: Kernels, spec: ModelSpec, names: TensorNames, source: NumberSource, form: int
) -> NativeWeights:
    """All weights; `form` is for matrices that the file holds in a kind the kernels don't know (Q4 or Q8).

    BadWeights before anything is read where shapes do not fit, GenerationError where there is no memory.
    """
    check_shapes(spec, names, source)
    return _Filler(kernels, spec, names, source, form).weights()


@dataclass(slots=True)
class _Part:
    """Rows of a matrix from one tensor, and where they go."""

    name: str
    to: Rows


class _Filler:
    """Plans first, so that all memory is taken at once; then one tensor after the other is read and packed."""

    def __init__(self, kernels: Kernels, spec: ModelSpec, names: TensorNames, source: NumberSource, form: int) -> None:
        self._kernels = kernels
        self._spec = spec
        self._names = names
        self._source = source
        self._form = form
        self._kept: list[Floats] = []

    def weights(self) -> NativeWeights:
        spec, names = self._spec, self._names
        plans = [self._plans(i) for i in range(len(spec.layers))]
        embed = [_Part(names.embed, np.arange(spec.vocab_size, dtype=np.int32))]
        head = embed if spec.tied_embeddings else [_Part(names.head, embed[0].to)]
        ends = [embed] if spec.tied_embeddings else [embed, head]
        every = [*(plan for layer in plans for plan in layer), *ends]
        shapes = [self._shape(plan) for plan in every]
        arena = Arena(self._kernels, sum(_bytes_of(*shape) for shape in shapes) + _SPARE_BYTES)
        at, made = arena.address, []
        for plan, shape in zip(every, shapes, strict=True):
            made.append(self._packed(plan, shape, at))
            at += _bytes_of(*shape)
        layers = (abi.Layer * len(plans))()
        for i, layer in enumerate(layers):
            layer.qkv, layer.out, layer.gate_up, layer.down = made[4 * i : 4 * i + 4]
            self._vectors(i, layer)
        embed_matrix = made[4 * len(plans)]
        head_matrix = embed_matrix if spec.tied_embeddings else made[-1]
        norm, turning = self._vector(names.norm), self._frequencies()
        return NativeWeights(layers, embed_matrix, head_matrix, norm, turning, arena, self._kept)

    def _plans(self, i: int) -> list[list[_Part]]:
        """What the four matrices of a layer are made of: qkv, out, gate and up, down."""
        spec, names = self._spec, self._names
        wide, narrow, dim = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim, spec.head_dim
        qkv = [
            _Part(names.q, _paired(spec.heads, dim, spec.rope.interleaved)),
            _Part(names.k, wide + _paired(spec.kv_heads, dim, spec.rope.interleaved)),
            _Part(names.v, wide + narrow + np.arange(narrow, dtype=np.int32)),
        ]
        out = [_Part(names.out, np.arange(spec.hidden, dtype=np.int32))]
        turns = [in_turns(spec.intermediate, 0), in_turns(spec.intermediate, 1)]
        gate_up = [_Part(names.gate, turns[0]), _Part(names.up, turns[1])]
        plans = [qkv, out, gate_up, [_Part(names.down, out[0].to)]]
        for part in (part for plan in plans for part in plan):
            part.name = part.name.format(i=i) + ".weight"
        return plans

    def _shape(self, plan: list[_Part]) -> tuple[int, int, int]:
        """Rows, columns and form of a matrix; parts of different kinds are brought to the widest form."""
        cols = self._source.shape(plan[0].name)[1]
        forms = {self._source.form(part.name, self._form) for part in plan}
        rows = max(int(part.to.max()) + 1 for part in plan)
        return rows, cols, forms.pop() if len(forms) == 1 else abi.Q8M

    def _packed(self, plan: list[_Part], shape: tuple[int, int, int], at: int) -> abi.Matrix:
        rows, cols, form = shape
        matrix = abi.Matrix(at, rows, cols, form, 0)
        for part in plan:
            weights = self._source.weights(part.name, self._form)
            mixed = self._source.form(part.name, self._form) != form
            pack(self._kernels, matrix, widened(weights) if mixed else weights, part.to)
        return matrix

    def _vectors(self, i: int, layer: abi.Layer) -> None:
        spec, names = self._spec, self._names
        layer.attn_norm = self._vector(names.attn_norm.format(i=i))
        layer.ffn_norm = self._vector(names.ffn_norm.format(i=i))
        if spec.qk_norm:
            order = np.argsort(_paired(1, spec.head_dim, spec.rope.interleaved))
            layer.q_norm, layer.k_norm = (
                self._vector(name.format(i=i), order) for name in (names.q_norm, names.k_norm)
            )
        if spec.qkv_bias:
            layer.qkv_bias = self._bias(self._plans(i)[0])
        if spec.out_bias:
            layer.out_bias = self._vector(names.out.format(i=i) + ".bias")
        if spec.mlp_bias:
            layer.gate_up_bias = self._bias(self._plans(i)[2])
            layer.down_bias = self._vector(names.down.format(i=i) + ".bias")
        layer.window = spec.layers[i].window or 0

    def _bias(self, plan: list[_Part]) -> int:
        """Biases of a matrix of several tensors, each where its row is."""
        whole = np.zeros(max(int(part.to.max()) + 1 for part in plan), dtype=np.float32)
        for part in plan:
            whole[part.to] = self._source.floats(part.name.removesuffix(".weight") + ".bias")
        return self._keep(whole)

    def _vector(self, name: str, order: npt.NDArray[np.int64] | None = None) -> int:
        values = self._source.floats(name)
        return self._keep(values if order is None else values[order])

    def _frequencies(self) -> int:
        turning = frequencies(self._spec.rope, self._spec.head_dim)
        if self._names.rope_divisors in self._source.names():
            turning = turning / self._source.floats(self._names.rope_divisors)
        return self._keep(turning)

    def _keep(self, values: Floats) -> int:
        """A copy that stays, readable for whole registers; its address."""
        kept = np.zeros(len(values) + _LANE_FLOATS, dtype=np.float32)
        kept[: len(values)] = values
        self._kept.append(kept)
        return kept.ctypes.data


def _paired(heads: int, dim: int, interleaved: bool) -> Rows:
    """Where the rows of each head go so that rotary pairs lie side by side; as they are where they do already."""
    rows = np.arange(heads * dim, dtype=np.int32)
    if interleaved:
        return rows
    head, at = rows // dim, rows % dim
    return head * dim + at % (dim // 2) * 2 + at // (dim // 2)


def _bytes_of(rows: int, cols: int, form: int) -> int:
    tile = {abi.Q4: 320, abi.Q8: 544, abi.Q8M: 576}[form]
    size = -(-rows // abi.LANES) * -(-cols // abi.GROUP) * tile
    return -(-size // 64) * 64
