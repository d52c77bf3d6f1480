"""Which tensors of which shapes a spec asks for, and the check against a source, before any tensor is read."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Protocol

from local_runtime.base import BadWeights
from local_runtime.models.names import ExpertNames, LatentNames, TensorNames
from local_runtime.models.spec import Latent, ModelSpec

Expected = tuple[str, tuple[int, ...]]


class Shaped(Protocol):
    """What is asked of a source before anything is read."""

    def names(self) -> Collection[str]:
        """Names of all tensors."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape in torch's order (rows, columns)."""


def check_shapes(spec: ModelSpec, names: TensorNames, source: Shaped) -> None:
    """BadWeights names the first tensor that is missing or has another shape than the configuration says."""
    present = source.names()
    for name, shape in expected_tensors(spec, names, present):
        if name not in present:
            raise BadWeights(f"the tensor {name!r} is missing")
        if (found := source.shape(name)) != shape and (1, *found) != shape:
            raise BadWeights(f"the tensor {name!r} has shape {found}, the configuration asks for {shape}")


def expected_tensors(spec: ModelSpec, names: TensorNames, present: Collection[str]) -> Iterator[Expected]:
    """Every tensor that will be read, with its shape."""
    yield names.embed, (spec.vocab_size, spec.hidden)
    yield names.norm, (spec.hidden,)
    if not spec.tied_embeddings:
        yield names.head, (spec.vocab_size, spec.hidden)
    if names.rope_divisors in present:
        yield names.rope_divisors, (spec.head_dim // 2,)
    for i, layer in enumerate(spec.layers):
        yield from _attention(spec, names, present, i)
        yield from _experts(spec, names, present, i) if layer.sparse else _dense(spec, names, present, i)


def _attention(spec: ModelSpec, names: TensorNames, present: Collection[str], i: int) -> Iterator[Expected]:
    wide, narrow = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    yield names.attn_norm.format(i=i), (spec.hidden,)
    yield names.before_ffn(spec.post_norms).format(i=i), (spec.hidden,)
    if spec.post_norms:
        yield names.attn_post_norm.format(i=i), (spec.hidden,)
        yield names.ffn_post_norm.format(i=i), (spec.hidden,)
    if spec.latent is not None:
        yield from _latent(spec, spec.latent, names, i)
        return
    apart = (names.q, wide), (names.k, narrow), (names.v, narrow)
    for name, rows in ((names.qkv, wide + 2 * narrow),) if names.fused_qkv(present, i) else apart:
        yield name.format(i=i) + ".weight", (rows, spec.hidden)
        if spec.qkv_bias:
            yield name.format(i=i) + ".bias", (rows,)
    yield names.out.format(i=i) + ".weight", (spec.hidden, wide)
    if spec.out_bias:
        yield names.out.format(i=i) + ".bias", (spec.hidden,)
    if spec.qk_norm:
        yield names.q_norm.format(i=i), (wide if spec.qk_norm_whole else spec.head_dim,)
        yield names.k_norm.format(i=i), (narrow if spec.qk_norm_whole else spec.head_dim,)


def _latent(spec: ModelSpec, latent: Latent, names: TensorNames, i: int) -> Iterator[Expected]:
    called = latent_names(names)
    wide, asked = spec.heads * (latent.plain + latent.turned), spec.hidden
    inward = [(called.inward, latent.width)]
    if latent.query_rank:
        asked = latent.query_rank
        inward.append((called.query_in, asked))
        yield called.query_norm.format(i=i), (asked,)
    yield (called.query_up if latent.query_rank else names.q + ".weight").format(i=i), (wide, asked)
    yield called.norm.format(i=i), (latent.rank,)
    yield called.up.format(i=i), (spec.heads * (latent.plain + latent.value), latent.rank)
    for name, rows, cols in (
        *((name, rows, spec.hidden) for name, rows in inward),
        (names.out, spec.hidden, spec.heads * latent.value),
    ):
        yield name.format(i=i) + ".weight", (rows, cols)
        if spec.out_bias:
            yield name.format(i=i) + ".bias", (rows,)


def latent_names(names: TensorNames) -> LatentNames:
    """BadWeights where files of this kind have no latent attention."""
    if names.latent is None:
        raise BadWeights("latent attention has no names in this kind of file")
    return names.latent


def _dense(spec: ModelSpec, names: TensorNames, present: Collection[str], i: int) -> Iterator[Expected]:
    rows, hidden = spec.intermediate, spec.hidden
    fused = names.fused_gate_up(present, i)
    inward = ((names.gate_up, 2 * rows),) if fused else ((names.gate, rows), (names.up, rows))
    for name, shape in (*((name, (wide, hidden)) for name, wide in inward), (names.down, (hidden, rows))):
        yield name.format(i=i) + ".weight", shape
        if spec.mlp_bias:
            yield name.format(i=i) + ".bias", shape[:1]


def _experts(spec: ModelSpec, names: TensorNames, present: Collection[str], i: int) -> Iterator[Expected]:
    if spec.moe is None:
        return
    experts, rows, hidden = spec.moe.experts, spec.moe.intermediate, spec.hidden
    stored = expert_names(names, present, i)
    yield stored.router.format(i=i), (experts, hidden)
    if spec.moe.shared:
        yield stored.shared_gate.format(i=i), (spec.moe.shared, hidden)
        yield stored.shared_up.format(i=i), (spec.moe.shared, hidden)
        yield stored.shared_down.format(i=i), (hidden, spec.moe.shared)
    if spec.moe.shared_gate:
        yield stored.shared_router.format(i=i), (1, hidden)
    shapes = {stored.gate_up: (2 * rows, hidden), stored.gate: (rows, hidden), stored.up: (rows, hidden)}
    shapes |= {stored.down: (hidden, rows)}
    for name, shape in shapes.items():
        if "{e}" in name:
            yield from ((name.format(i=i, e=e), shape) for e in range(experts))
        elif name:
            yield name.format(i=i), (experts, *shape)


def expert_names(names: TensorNames, present: Collection[str], i: int) -> ExpertNames:
    """The way in which this file stores the experts of layer `i`."""
    fitting = [stored for stored in names.experts if stored.down.format(i=i, e=0) in present]
    for stored in fitting:
        if stored.shared_down.format(i=i) in present:
            return stored
    if fitting:
        return fitting[0]
    raise BadWeights(f"layer {i} has no experts under any known name")
