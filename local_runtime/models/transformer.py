"""The one decoder-only transformer, dense or with experts: plain torch, the reference that faster paths are held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from local_runtime.kv.cache import PagedCache
from local_runtime.models.attention import attention, capped
from local_runtime.models.base import Logits, Segment
from local_runtime.models.rope import frequencies
from local_runtime.models.spec import ModelSpec, Moe
from local_runtime.models.weights import DenseWeights, LayerWeights, ModelWeights, MoeWeights

REFINED = 64


@dataclass(frozen=True, slots=True)
class Span:
    """A segment's place in the flat batch: rows a..b from position `start`, where their keys and values go, and what
    its tokens may see.

    `seen` holds for every attention window of the model where visible keys and values lie and an additive mask
    [rows * group, visible], None where a single row sees all.
    """

    a: int
    b: int
    start: int
    places: torch.Tensor
    seen: dict[int | None, tuple[torch.Tensor, torch.Tensor | None]]


class Transformer:
    """Weights, key-value store and the forward pass. Linear maps run over all rows at once, attention per sequence,
    so that sequences of any lengths mix without padding and a row never depends on its neighbours."""

    def __init__(self, spec: ModelSpec, weights: ModelWeights, cache: PagedCache) -> None:
        self.spec = spec
        self.weights = weights
        self.cache = cache
        self.vocab_size = spec.vocab_size
        self.invariant = False
        self.shares = True
        self.page_count = cache.shape.pages
        self.layers: Sequence[int] = range(len(spec.layers))
        self._windows = {layer.window for layer in spec.layers}
        self._group = spec.heads // spec.kv_heads
        self._frequencies = [torch.from_numpy(frequencies(rope, spec.head_dim)) for rope in spec.ropes]
        if weights.rope_divisors is not None:
            self._frequencies[0] = self._frequencies[0] / weights.rope_divisors

    def use_threads(self, threads: int) -> None:
        """Torch's intra-op threads of the calling thread."""
        torch.set_num_threads(threads)

    @torch.inference_mode()
    def forward(self, segments: Sequence[Segment]) -> Logits:
        """See LanguageModel.forward."""
        spans = self._spans(segments)
        tokens = torch.tensor([token for segment in segments for token in segment.tokens])
        positions = torch.cat([torch.arange(span.start, span.start + span.b - span.a) for span in spans])
        turns = [_rotations(positions, turning) for turning in self._frequencies]
        hidden = self.weights.embed[tokens].float() * self.spec.embed_scale
        before: torch.Tensor | None = None
        for i in self.layers:
            layer = self.weights.layers[i]
            mixed = self._attention(i, layer, self.normed(hidden, layer.attn_norm), spans, turns)
            hidden.add_(self._after(mixed, layer.attn_post_norm))
            inside = self.normed(hidden, layer.ffn_norm)
            hidden.add_(self._after(feed_forward(layer.ffn, inside, before), layer.ffn_post_norm))
            before = inside if isinstance(layer.ffn, MoeWeights) else before
        pairs = zip(segments, spans, strict=True)
        wanted = [row for segment, span in pairs for row in range(span.b - segment.logits, span.b)]
        return self._head(hidden[wanted])

    @torch.inference_mode()
    def attended(self, layer: int, hidden: torch.Tensor, segments: Sequence[Segment]) -> torch.Tensor:
        """What a layer's attention adds to hidden states [rows, hidden], the rows of the segments in order."""
        spans = self._spans(segments)
        positions = torch.cat([torch.arange(span.start, span.start + span.b - span.a) for span in spans])
        weights = self.weights.layers[layer]
        turns = [_rotations(positions, turning) for turning in self._frequencies]
        return self._attention(layer, weights, self.normed(hidden, weights.attn_norm), spans, turns).float()

    def _head(self, hidden: torch.Tensor) -> Logits:
        """Logits; below float32 the best candidates are computed again in float32.

        Bfloat16 leaves three digits of a logit: without this, ties among the best would decide greedy answers.
        """
        weights, spec = self.weights, self.spec
        final = functional.rms_norm(hidden, weights.norm.shape, weights.norm, spec.norm_eps)
        logits = functional.linear(final.to(weights.head.dtype), weights.head).float()
        if weights.head.dtype != torch.float32 and len(logits):
            best = logits.topk(min(REFINED, spec.vocab_size), dim=-1).indices
            exact = torch.bmm(weights.head[best].float(), final.unsqueeze(-1)).squeeze(-1)
            logits.scatter_(1, best, exact)
        if spec.logit_cap:
            logits = capped(logits, spec.logit_cap)
        out: Logits = logits.numpy()
        return out

    def normed(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """RMSNorm (arXiv:1910.07467) in float32, then the compute type."""
        return functional.rms_norm(x, weight.shape, weight, self.spec.norm_eps).to(self.weights.embed.dtype)

    def _after(self, x: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        return x if weight is None else functional.rms_norm(x.float(), weight.shape, weight, self.spec.norm_eps)

    def _attention(
        self, i: int, layer: LayerWeights, x: torch.Tensor, spans: list[Span], turns: list[torch.Tensor]
    ) -> torch.Tensor:
        spec = self.spec
        heads = functional.linear(x, layer.qkv, layer.qkv_bias).view(len(x), -1, spec.head_dim)
        rotary, values = heads[:, : -spec.kv_heads], heads[:, -spec.kv_heads :]
        if layer.q_norm is not None and layer.k_norm is not None:
            queries = self._head_normed(rotary[:, : spec.heads], layer.q_norm)
            rotary = torch.cat([queries, self._head_normed(rotary[:, spec.heads :], layer.k_norm)], dim=1)
        rotary = _rotate(rotary, turns[spec.layers[i].second_rope])
        queries, keys = rotary[:, : spec.heads], rotary[:, spec.heads :]
        window = spec.layers[i].window
        seen = []
        for span in spans:
            rows = slice(span.a, span.b)
            seen.append(self._of_span(i, span, window, queries[rows], keys[rows], values[rows]))
        mixed = seen[0] if len(seen) == 1 else torch.cat(seen)
        return functional.linear(mixed, layer.out, layer.out_bias)

    def _head_normed(self, heads: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Each head of [tokens, heads, head_dim] by itself, or all as one where the weight is as wide."""
        wide = heads.float().reshape(len(heads), -1, len(weight))
        normed = functional.rms_norm(wide, weight.shape, weight, self.spec.norm_eps)
        return normed.view(heads.shape).to(heads.dtype)

    def _of_span(
        self, i: int, span: Span, window: int | None, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        """Attention of one sequence's rows [rows, heads, head_dim] to its past; [rows, heads * head_dim]."""
        self.cache.write(i, span.places, keys, values)
        places, mask = span.seen[window]
        keys, values = self.cache.read(i, places)
        folded, spec = self._folded(queries), self.spec
        mixed = attention(folded, keys.unsqueeze(0), values.unsqueeze(0), mask, spec.score_scale, spec.attn_cap)
        return self._unfolded(mixed, len(queries))

    def _folded(self, queries: torch.Tensor) -> torch.Tensor:
        """[1, kv_heads, group * rows, head_dim] of [rows, heads, head_dim].

        The query heads that share a key-value head are laid out as further rows of it: no key is ever repeated.
        """
        rows, spec = len(queries), self.spec
        folded = queries.reshape(rows, spec.kv_heads, self._group, spec.head_dim).permute(1, 2, 0, 3)
        return folded.reshape(1, spec.kv_heads, self._group * rows, spec.head_dim)

    def _unfolded(self, mixed: torch.Tensor, rows: int) -> torch.Tensor:
        """[rows, heads * head_dim] of what `_folded` led to."""
        spec = self.spec
        unfolded = mixed.view(spec.kv_heads, self._group, rows, spec.head_dim).permute(2, 0, 1, 3)
        return unfolded.reshape(rows, spec.heads * spec.head_dim)

    def _spans(self, segments: Sequence[Segment]) -> list[Span]:
        spans: list[Span] = []
        for segment in segments:
            spans.append(self._span(segment, spans[-1].b if spans else 0))
        return spans

    def _span(self, segment: Segment, a: int) -> Span:
        """The segment's, its first row being row `a`."""
        b = a + len(segment.tokens)
        end = segment.start + b - a
        seen = {}
        for window in self._windows:
            first, mask = self._mask(segment.start, b - a, window)
            seen[window] = (self.cache.places(segment.pages, first, end), mask)
        return Span(a, b, segment.start, self.cache.places(segment.pages, segment.start, end), seen)

    def _mask(self, start: int, rows: int, window: int | None) -> tuple[int, torch.Tensor | None]:
        """First visible position and mask for `rows` tokens from `start`: nothing later, nothing beyond the window."""
        first = max(0, start + 1 - window) if window else 0
        if rows == 1:
            return first, None
        at = torch.arange(start, start + rows).unsqueeze(1)
        seen = torch.arange(first, start + rows).unsqueeze(0)
        hidden = seen > at
        if window:
            hidden |= seen <= at - window
        mask = torch.zeros(hidden.shape, dtype=self.weights.embed.dtype).masked_fill_(hidden, float("-inf"))
        return first, mask.repeat(self._group, 1)


def feed_forward(ffn: DenseWeights | MoeWeights, x: torch.Tensor, before: torch.Tensor | None) -> torch.Tensor:
    """[rows, hidden]; `before` is what the sparse layer before this one got, None: there is none."""
    if isinstance(ffn, MoeWeights):
        return _experts(ffn, x, x if before is None or not ffn.moe.early else before)
    inside = _gated(functional.linear(x, ffn.gate_up, ffn.gate_up_bias), ffn.gelu)
    return functional.linear(inside, ffn.down, ffn.down_bias)


def _gated(gate_up: torch.Tensor, gelu: bool = False) -> torch.Tensor:
    """SiLU(gate) * up (arXiv:2002.05202), or GELU's tanh form; gate and up side by side in the last dimension."""
    gate, up = gate_up.chunk(2, dim=-1)
    return (functional.gelu(gate, approximate="tanh") if gelu else functional.silu(gate)) * up


def _experts(ffn: MoeWeights, x: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """Top-k routed SwiGLU experts (arXiv:2401.04088); float32 [rows, hidden], router probabilities in float32.

    The router reads `asked`.
    """
    weights, chosen = routes(ffn.moe, functional.linear(asked, ffn.router).float())
    mixed = torch.zeros(x.shape, dtype=torch.float32)
    for expert in torch.bincount(chosen.flatten()).nonzero().flatten().tolist():
        rows, rank = torch.where(chosen == expert)
        out = functional.linear(_gated(functional.linear(x[rows], ffn.gate_up[expert])), ffn.down[expert])
        mixed.index_add_(0, rows, out.float() * weights[rows, rank].unsqueeze(1))
    if ffn.shared is not None:
        shared = feed_forward(ffn.shared, x, None).float()
        if ffn.shared_router is not None:
            shared *= torch.sigmoid(functional.linear(x, ffn.shared_router).float())
        mixed += shared
    return mixed


def routes(moe: Moe, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and numbers of the chosen experts [rows, active] from what the router says [rows, experts]."""
    weights, chosen = scores.softmax(dim=-1).topk(moe.active, dim=-1)
    if moe.even:
        weights = torch.ones_like(weights)
    elif moe.normalise:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return weights * moe.scale, chosen


def _rotations(positions: torch.Tensor, per_position: torch.Tensor) -> torch.Tensor:
    """Unit complex numbers [positions, 1, head_dim / 2] that turn each pair of a token at each position."""
    angles = torch.outer(positions.float(), per_position)
    return torch.polar(torch.ones_like(angles), angles).unsqueeze(1)


def _rotate(heads: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Turn the pairs of `heads` [tokens, heads, head_dim] (pairs side by side); the result keeps the type."""
    pairs = torch.view_as_complex(heads.float().view(*heads.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns).flatten(-2).to(heads.dtype)
