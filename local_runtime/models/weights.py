"""The tensors of a model, read from a TensorSource, fused and ordered for speed. Knows no file format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from local_runtime.models.expected import check_shapes, expert_names, latent_names
from local_runtime.models.latent import LatentWeights
from local_runtime.models.names import ExpertNames, TensorNames
from local_runtime.models.packed import Matrix, Packed, packable, packed, plain
from local_runtime.models.rope import paired
from local_runtime.models.source import TensorSource
from local_runtime.models.spec import Latent, ModelSpec, Moe


@dataclass(frozen=True, slots=True)
class DenseWeights:
    """`gate_up` [2 * intermediate, hidden], `down` [hidden, intermediate], biases where the family has them.

    SwiGLU, or GEGLU (arXiv:2002.05202) with `gelu`.
    """

    gate_up: Matrix
    down: Matrix
    gate_up_bias: torch.Tensor | None
    down_bias: torch.Tensor | None
    gelu: bool = False


@dataclass(frozen=True, slots=True)
class MoeWeights:
    """`router` [experts, hidden], `gate_up` [experts, 2 * width, hidden], `down` [experts, hidden, width].

    `shared` is taken by every token, with the weight of `shared_router` [1, hidden] if there is one.
    """

    moe: Moe
    router: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor
    shared: DenseWeights | None = None
    shared_router: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One block; `qkv` holds query, key and value rows below each other, q and k rows in rotary pairs. With
    `latent`, it holds the rows of queries or their latents, of latents and of what of keys is turned."""

    attn_norm: torch.Tensor
    qkv: Matrix
    qkv_bias: torch.Tensor | None
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    out: Matrix
    out_bias: torch.Tensor | None
    ffn_norm: torch.Tensor
    ffn: DenseWeights | MoeWeights
    attn_post_norm: torch.Tensor | None = None
    ffn_post_norm: torch.Tensor | None = None
    latent: LatentWeights | None = None


@dataclass(frozen=True, slots=True)
class ModelWeights:
    """Matrices in the compute type, norm weights in float32; `head` is `embed` where the two are tied.

    `rope_divisors` [head_dim / 2] divide the rotary frequencies where a file brings them.
    """

    embed: torch.Tensor
    layers: tuple[LayerWeights, ...]
    norm: torch.Tensor
    head: Matrix
    rope_divisors: torch.Tensor | None


def load_weights(
    spec: ModelSpec, names: TensorNames, source: TensorSource, dtype: torch.dtype, *, packs: bool = False
) -> ModelWeights:
    """All weights of the model; BadWeights before anything is read where shapes do not fit. With `packs`, what a file
    rounds in groups of 32 stays so where it is multiplied (see models.packed), experts excepted."""
    check_shapes(spec, names, source)
    return _Filler(spec, names, source, dtype, packs).model()


class _Filler:
    """Reads tensors whose shapes are known to fit."""

    def __init__(
        self, spec: ModelSpec, names: TensorNames, source: TensorSource, dtype: torch.dtype, packs: bool
    ) -> None:
        self.spec = spec
        self.names = names
        self.source = source
        self.dtype = dtype
        self.packs = packs

    def model(self) -> ModelWeights:
        spec, names = self.spec, self.names
        embed = self._read(names.embed)
        brings_divisors = names.rope_divisors in self.source.names()
        return ModelWeights(
            embed=embed,
            layers=tuple(self._layer(i) for i in range(len(spec.layers))),
            norm=self._norm(names.norm),
            head=self._tied(embed) if spec.tied_embeddings else self._read(names.head),
            rope_divisors=self._vector(names.rope_divisors) if brings_divisors else None,
        )

    def _layer(self, i: int) -> LayerWeights:
        spec, names = self.spec, self.names
        return LayerWeights(
            attn_norm=self._norm(names.attn_norm.format(i=i)),
            qkv=self._qkv(i, ".weight"),
            qkv_bias=plain(self._qkv(i, ".bias")) if spec.qkv_bias else None,
            q_norm=self._head_norm(names.q_norm.format(i=i), spec.heads) if spec.qk_norm else None,
            k_norm=self._head_norm(names.k_norm.format(i=i), spec.kv_heads) if spec.qk_norm else None,
            out=self._matrix([names.out.format(i=i) + ".weight"]),
            out_bias=self._read(names.out.format(i=i) + ".bias") if spec.out_bias else None,
            ffn_norm=self._norm(names.before_ffn(spec.post_norms).format(i=i)),
            ffn=self._moe(i, spec.moe) if spec.moe and spec.layers[i].sparse else self._dense(i),
            attn_post_norm=self._norm(names.attn_post_norm.format(i=i)) if spec.post_norms else None,
            ffn_post_norm=self._norm(names.ffn_post_norm.format(i=i)) if spec.post_norms else None,
            latent=self._latent(i, spec.latent) if spec.latent else None,
        )

    def _qkv(self, i: int, suffix: str) -> Matrix:
        """The three projections as one; q and k rows brought to rotary pairs."""
        if self.spec.latent is not None:
            return self._inward(i, suffix, self.spec.latent)
        spec = self.spec
        fused = self.names.fused_qkv(self.source.names(), i)
        called = (self.names.qkv,) if fused else (self.names.q, self.names.k, self.names.v)
        rows = torch.arange((spec.heads + 2 * spec.kv_heads) * spec.head_dim)
        query, key, value = rows.split([heads * spec.head_dim for heads in (spec.heads, spec.kv_heads, spec.kv_heads)])
        order = torch.cat([self._paired(query, spec.heads), self._paired(key, spec.kv_heads), value])
        return self._matrix([name.format(i=i) + suffix for name in called], order)

    def _matrix(self, names: Sequence[str], order: torch.Tensor | None = None) -> Matrix:
        """Matrices, or biases, one below the other, their rows in `order`."""
        groups = [self.source.groups(name) for name in names] if self.packs else []
        found = [one for one in groups if one is not None]
        if found and len(found) == len(names) and packable(found):
            return packed(found, order)
        read = [self._read(name) for name in names]
        whole = read[0] if len(read) == 1 else torch.cat(read)
        return whole if order is None else whole[order]

    def _tied(self, embed: torch.Tensor) -> Matrix:
        """What the embedding is multiplied as."""
        found = self._matrix([self.names.embed]) if self.packs else embed
        return found if isinstance(found, Packed) else embed

    def _latent(self, i: int, latent: Latent) -> LatentWeights:
        names, heads = latent_names(self.names), self.spec.heads
        up = self._read(names.up.format(i=i)).view(heads, latent.plain + latent.value, latent.rank)
        key_up, value_up = up.split([latent.plain, latent.value], dim=1)
        return LatentWeights(
            query_norm=self._vector(names.query_norm.format(i=i)) if latent.query_rank else None,
            query_up=self._read(names.query_up.format(i=i)) if latent.query_rank else None,
            norm=self._vector(names.norm.format(i=i)),
            key_up=key_up.contiguous(),
            value_up=value_up.contiguous(),
        )

    def _inward(self, i: int, suffix: str, latent: Latent) -> torch.Tensor:
        """What hidden states go through first; queries without a latent have no bias, so zeroes."""
        names = latent_names(self.names)
        first = (names.query_in if latent.query_rank else self.names.q).format(i=i) + suffix
        if suffix == ".bias" and not latent.query_rank:
            asked = torch.zeros(self.spec.heads * (latent.plain + latent.turned), dtype=self.dtype)
        else:
            asked = self._read(first)
        return torch.cat([asked, self._read(names.inward.format(i=i) + suffix)])

    def _paired(self, rows: torch.Tensor, heads: int) -> torch.Tensor:
        """Rows ordered as halves (x_i with x_{i + d/2}) become pairs side by side; scores of q and k do not change."""
        order = torch.from_numpy(np.argsort(paired(self.spec.rope, self.spec.head_dim)))
        return rows.view(heads, self.spec.head_dim, *rows.shape[1:])[:, order].reshape(rows.shape)

    def _head_norm(self, name: str, heads: int) -> torch.Tensor:
        return self._paired(self._norm(name), heads if self.spec.qk_norm_whole else 1)

    def _dense(self, i: int) -> DenseWeights:
        down, biased = self.names.down.format(i=i), self.spec.mlp_bias
        return DenseWeights(
            gate_up=self._gate_up(i, ".weight"),
            down=self._matrix([down + ".weight"]),
            gate_up_bias=plain(self._gate_up(i, ".bias")) if biased else None,
            down_bias=self._read(down + ".bias") if biased else None,
            gelu=self.spec.gelu,
        )

    def _gate_up(self, i: int, suffix: str) -> Matrix:
        names = self.names
        apart = (names.gate, names.up)
        called = (names.gate_up,) if names.fused_gate_up(self.source.names(), i) else apart
        return self._matrix([name.format(i=i) + suffix for name in called])

    def _moe(self, i: int, moe: Moe) -> MoeWeights:
        names = expert_names(self.names, self.source.names(), i)
        if names.gate_up:
            gate_up = self._experts(names.gate_up, i, moe)
        else:
            gate_up = torch.cat([self._experts(names.gate, i, moe), self._experts(names.up, i, moe)], dim=1)
        router = self._read(names.router.format(i=i))
        return MoeWeights(
            moe,
            router=router,
            gate_up=gate_up,
            down=self._experts(names.down, i, moe),
            shared=self._shared(names, i) if moe.shared else None,
            shared_router=self._read(names.shared_router.format(i=i)).view(1, -1) if moe.shared_gate else None,
        )

    def _shared(self, names: ExpertNames, i: int) -> DenseWeights:
        gate, up = (self._read(name.format(i=i)) for name in (names.shared_gate, names.shared_up))
        return DenseWeights(torch.cat([gate, up]), self._read(names.shared_down.format(i=i)), None, None)

    def _experts(self, name: str, i: int, moe: Moe) -> torch.Tensor:
        if "{e}" not in name:
            return self._read(name.format(i=i))
        return torch.stack([self._read(name.format(i=i, e=e)) for e in range(moe.experts)])

    def _norm(self, name: str) -> torch.Tensor:
        return self._vector(name) + self.spec.norm_offset

    def _vector(self, name: str) -> torch.Tensor:
        return self.source.read(name, torch.float32)

    def _read(self, name: str) -> torch.Tensor:
        return self.source.read(name, self.dtype)
