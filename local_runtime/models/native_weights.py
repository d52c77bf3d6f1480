"""All weights of a model in tiles, in one stretch of memory. Knows no file format."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from local_runtime.kernels import abi
from local_runtime.kernels.library import Arena, Kernels
from local_runtime.kernels.packing import Rows, in_turns
from local_runtime.models.expected import check_shapes, expert_names
from local_runtime.models.names import TensorNames
from local_runtime.models.native_experts import ExpertPacker, ExpertShape
from local_runtime.models.numbers import Floats, NumberSource
from local_runtime.models.plans import Packer, Part, Plan, as_it_is
from local_runtime.models.rope import frequencies, paired
from local_runtime.models.spec import ModelSpec, Rope

# A tile may be asked for ahead of its use, and a vector register reads a little beyond a vector's end.
_SPARE_BYTES = 8192
_LANE_FLOATS = 16
_END = -1


def not_native(spec: ModelSpec) -> str | None:
    """Why the native kernels can't compute such a model; None where they can."""
    if spec.latent is not None:
        return "attention is latent: keys and values of all heads come of one latent"
    if spec.head_dim % _LANE_FLOATS or spec.head_dim > 512:
        return f"heads of {spec.head_dim} elements are not a multiple of {_LANE_FLOATS} up to 512"
    if spec.qk_norm_whole:
        return "queries and keys are normalised over all heads at once"
    return None


@dataclass(frozen=True, slots=True)
class NativeWeights:
    """`layers` as the library reads them; `kept` and `arena` own what they point to. `bytes`: of all matrices.

    `experts` are tables by layer. Of those whose experts are elsewhere the tiles are not there yet.
    """

    layers: ctypes.Array[abi.Layer]
    embed: abi.Matrix
    head: abi.Matrix
    norm: int
    frequencies: tuple[int, ...]
    bytes: int
    arena: Arena
    experts: Mapping[int, ctypes.Array[abi.Expert]]
    kept: Sequence[npt.NDArray[np.float32]] = field(repr=False)


def load_native(
    kernels: Kernels,
    spec: ModelSpec,
    names: TensorNames,
    source: NumberSource,
    form: int,
    elsewhere: ExpertShape | None = None,
) -> NativeWeights:
    """All weights; `form` is for matrices that the file holds in a kind the kernels don't know (Q4 or Q8).

    With `elsewhere`, experts of that shape are not loaded. BadWeights before anything is read where shapes do not fit,
    GenerationError where there is no memory.
    """
    check_shapes(spec, names, source)
    return _Filler(kernels, spec, names, source, form, elsewhere).weights()


class _Filler:
    """Plans first, so that all memory is taken at once; then one tensor after the other is read and packed."""

    def __init__(
        self,
        kernels: Kernels,
        spec: ModelSpec,
        names: TensorNames,
        source: NumberSource,
        form: int,
        elsewhere: ExpertShape | None,
    ) -> None:
        self._kernels = kernels
        self._spec = spec
        self._names = names
        self._source = source
        self._packer = Packer(kernels, source, form)
        self._experts = ExpertPacker(kernels, spec, names, source, form)
        self._elsewhere = elsewhere
        self._kept: list[Floats] = []

    def weights(self) -> NativeWeights:
        spec, names = self._spec, self._names
        plans: dict[tuple[int, str], Plan] = {
            (i, name): plan for i in range(len(spec.layers)) for name, plan in self._plans(i).items()
        }
        plans[_END, "embed"] = [Part(names.embed, as_it_is(spec.vocab_size))]
        if not spec.tied_embeddings:
            plans[_END, "head"] = [Part(names.head, as_it_is(spec.vocab_size))]
        shapes = {key: self._packer.shape(plan) for key, plan in plans.items()}
        expert_bytes = self._expert_bytes()
        size = sum(shape.bytes for shape in shapes.values()) + sum(expert_bytes.values())
        arena = Arena(self._kernels, size + _SPARE_BYTES)
        at, layers, ends = arena.address, (abi.Layer * len(spec.layers))(), {}
        for (i, name), plan in plans.items():
            matrix = self._packer.pack(plan, shapes[i, name], at)
            at += shapes[i, name].bytes
            if i == _END:
                ends[name] = matrix
            else:
                setattr(layers[i], name, matrix)
        experts = {}
        for i, layer in enumerate(layers):
            self._vectors(i, layer)
            if i in expert_bytes:
                experts[i] = self._sparse(i, layer, at)
                at += expert_bytes[i]
        norm, turning = self._norm(names.norm), self._frequencies()
        head = ends.get("head", ends["embed"])
        return NativeWeights(layers, ends["embed"], head, norm, turning, size, arena, experts, self._kept)

    def _plans(self, i: int) -> dict[str, Plan]:
        """What the matrices of a layer are made of."""
        spec, names = self._spec, self._names
        wide, narrow, dim = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim, spec.head_dim
        places = (
            _paired(spec.heads, dim, spec.rope),
            wide + _paired(spec.kv_heads, dim, spec.rope),
            wide + narrow + as_it_is(narrow),
        )
        if names.fused_qkv(self._source.names(), i):
            qkv = [self._part(names.qkv, i, np.concatenate(places))]
        else:
            qkv = [self._part(name, i, to) for name, to in zip((names.q, names.k, names.v), places, strict=True)]
        plans: dict[str, Plan] = {"qkv": qkv, "out": [self._part(names.out, i, as_it_is(spec.hidden))]}
        if not spec.layers[i].sparse:
            return plans | self._feed_forward((names.gate, names.up, names.down), i, spec.intermediate, ".weight")
        if spec.moe and spec.moe.shared:
            stored = expert_names(names, self._source.names(), i)
            called = stored.shared_gate, stored.shared_up, stored.shared_down
            return plans | self._feed_forward(called, i, spec.moe.shared)
        return plans

    def _feed_forward(self, called: tuple[str, str, str], i: int, width: int, suffix: str = "") -> dict[str, Plan]:
        """Gate and up in turns, and down."""
        gate, up, down = (name.format(i=i) + suffix for name in called)
        turns = in_turns(width, 0), in_turns(width, 1)
        gate_up = [Part(gate, turns[0]), Part(up, turns[1])]
        if called[0] == self._names.gate and self._names.fused_gate_up(self._source.names(), i):
            gate_up = [self._part(self._names.gate_up, i, np.concatenate(turns))]
        return {"gate_up": gate_up, "down": [Part(down, as_it_is(self._spec.hidden))]}

    @staticmethod
    def _part(name: str, i: int, to: Rows) -> Part:
        return Part(name.format(i=i) + ".weight", to)

    def _expert_bytes(self) -> dict[int, int]:
        """What the experts of each sparse layer take here."""
        moe = self._spec.moe
        if moe is None:
            return {}
        here = 0 if self._elsewhere else self._experts.shape().planes[0] * moe.experts
        return dict.fromkeys(self._experts.layers, here)

    def _sparse(self, i: int, layer: abi.Layer, at: int) -> ctypes.Array[abi.Expert]:
        """The layer's router, and its experts from an address on."""
        stored = expert_names(self._names, self._source.names(), i)
        router = self._source.floats(stored.router.format(i=i))
        layer.experts = len(router)
        layer.router = self._keep(router.ravel())
        if self._spec.moe and self._spec.moe.shared_gate:
            layer.shared_router = self._keep(self._source.floats(stored.shared_router.format(i=i)).ravel())
        if self._elsewhere is None:
            table = self._experts.resident(self._experts.shape(), i, at)
        else:
            table = (abi.Expert * len(router))(*[self._elsewhere.at((0, 0))] * len(router))
        layer.expert = table
        return table

    def _vectors(self, i: int, layer: abi.Layer) -> None:
        spec, names = self._spec, self._names
        layer.attn_norm = self._norm(names.attn_norm.format(i=i))
        layer.ffn_norm = self._norm(names.before_ffn(spec.post_norms).format(i=i))
        if spec.post_norms:
            layer.attn_post_norm = self._norm(names.attn_post_norm.format(i=i))
            layer.ffn_post_norm = self._norm(names.ffn_post_norm.format(i=i))
        if spec.qk_norm:
            order = np.argsort(paired(spec.rope, spec.head_dim))
            layer.q_norm, layer.k_norm = (self._norm(name.format(i=i), order) for name in (names.q_norm, names.k_norm))
        plans = self._plans(i)
        if spec.qkv_bias:
            layer.qkv_bias = self._bias(plans["qkv"])
        if spec.out_bias:
            layer.out_bias = self._vector(names.out.format(i=i) + ".bias")
        if spec.mlp_bias and not spec.layers[i].sparse:
            layer.gate_up_bias = self._bias(plans["gate_up"])
            layer.down_bias = self._vector(names.down.format(i=i) + ".bias")
        layer.window = spec.layers[i].window or 0
        layer.rope = spec.layers[i].second_rope

    def _bias(self, plan: Plan) -> int:
        """Biases of a matrix of several tensors, each where its row is."""
        whole = np.zeros(max(int(part.to.max()) + 1 for part in plan), dtype=np.float32)
        for part in plan:
            whole[part.to] = self._source.floats(part.name.removesuffix(".weight") + ".bias")
        return self._keep(whole)

    def _vector(self, name: str) -> int:
        return self._keep(self._source.floats(name))

    def _norm(self, name: str, order: npt.NDArray[np.int64] | None = None) -> int:
        values = self._source.floats(name) + np.float32(self._spec.norm_offset)
        return self._keep(values if order is None else values[order])

    def _frequencies(self) -> tuple[int, ...]:
        turning = [frequencies(rope, self._spec.head_dim) for rope in self._spec.ropes]
        if self._names.rope_divisors in self._source.names():
            turning[0] = turning[0] / self._source.floats(self._names.rope_divisors)
        return tuple(self._keep(each) for each in turning)

    def _keep(self, values: Floats) -> int:
        """A copy that stays, readable for whole registers; its address."""
        kept = np.zeros(len(values) + _LANE_FLOATS, dtype=np.float32)
        kept[: len(values)] = values
        self._kept.append(kept)
        return kept.ctypes.data


def _paired(heads: int, dim: int, rope: Rope) -> Rows:
    """Where the rows of each head go so that rotary pairs lie side by side."""
    rows = np.arange(heads * dim, dtype=np.int32)
    return (rows - rows % dim + np.tile(paired(rope, dim), heads)).astype(np.int32)
