"""The one decoder-only transformer, dense or with experts: plain torch, the reference that faster paths are held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock

import torch
from torch.nn import functional

from local_runtime.adapters.base import Adapter
from local_runtime.adapters.torch_lora import TorchLora, Worn, put_on
from local_runtime.base import UnsupportedModel
from local_runtime.kv.cache import PagedCache
from local_runtime.models.attention import attention, capped
from local_runtime.models.base import Logits, Segment
from local_runtime.models.feed_forward import feed_forward
from local_runtime.models.latent import latent_heads, raised
from local_runtime.models.packed import Packed, product
from local_runtime.models.rope import frequencies
from local_runtime.models.spec import ModelSpec, Yarn
from local_runtime.models.turns import rotated, rotations
from local_runtime.models.weights import LayerWeights, ModelWeights, MoeWeights

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
        self._frequencies = [torch.from_numpy(frequencies(rope, spec.rotary_dim)) for rope in spec.ropes]
        if weights.rope_divisors is not None:
            self._frequencies[0] = self._frequencies[0] / weights.rope_divisors
        self._adapters: list[TorchLora] = []
        self._wearing = Lock()
        self._plain: Transformer | None = None  # the base on its own keys and values, which gates read

    def wear(self, adapter: Adapter) -> int:
        """See Wears; a gate takes as much memory for keys and values again."""
        if adapter.gate is not None and not self.shares:
            raise UnsupportedModel("a gate needs all keys and values: take kv_policy full")
        with self._wearing:
            if adapter.gate is not None and self._plain is None:
                cache = PagedCache(self.cache.shape, self.weights.embed.dtype)
                self._plain = Transformer(self.spec, self.weights, cache)
        lora = TorchLora(self.spec, adapter)
        with self._wearing:
            self._adapters.append(lora)
            return len(self._adapters) - 1

    def use_threads(self, threads: int) -> None:
        """Torch's intra-op threads of the calling thread."""
        torch.set_num_threads(threads)

    @torch.inference_mode()
    def forward(self, segments: Sequence[Segment]) -> Logits:
        """See LanguageModel.forward."""
        spans = self._spans(segments)
        hidden = self._hidden_states(segments, spans, self._worn(segments, spans))
        pairs = zip(segments, spans, strict=True)
        wanted = [row for segment, span in pairs for row in range(span.b - segment.logits, span.b)]
        return self._head(hidden[wanted])

    def _worn(self, segments: Sequence[Segment], spans: Sequence[Span]) -> list[Worn]:
        """Which rows wear an adapter."""
        worn = []
        for segment, span in zip(segments, spans, strict=True):
            if segment.adapter is not None:
                lora = self._adapters[segment.adapter]
                gates = lora.gate(self._plain.states(segment)) if lora.gate and self._plain else None
                worn.append(Worn(span.a, span.b, lora, gates))
        return worn

    def states(self, segment: Segment) -> torch.Tensor:
        """The base's normalised last hidden states of a segment, float32 [rows, hidden]; remembers keys and values."""
        hidden = self._hidden_states([segment], self._spans([segment]), [])
        return functional.rms_norm(hidden, self.weights.norm.shape, self.weights.norm, self.spec.norm_eps)

    def _hidden_states(self, segments: Sequence[Segment], spans: list[Span], worn: list[Worn]) -> torch.Tensor:
        """What the last layer leaves, float32 [rows, hidden]."""
        tokens = torch.tensor([token for segment in segments for token in segment.tokens])
        turns = self._turns(spans)
        hidden = self.weights.embed[tokens].float() * self.spec.embed_scale
        before: torch.Tensor | None = None
        for i in self.layers:
            layer = self.weights.layers[i]
            mixed = self._attention(i, layer, self.normed(hidden, layer.attn_norm), spans, turns, worn)
            hidden.add_(self._after(mixed, layer.attn_post_norm))
            inside = self.normed(hidden, layer.ffn_norm)
            outside = feed_forward(layer.ffn, inside, before, partial(put_on, worn, i))
            hidden.add_(self._after(outside, layer.ffn_post_norm))
            before = inside if isinstance(layer.ffn, MoeWeights) else before
        return hidden

    @torch.inference_mode()
    def attended(self, layer: int, hidden: torch.Tensor, segments: Sequence[Segment]) -> torch.Tensor:
        """What a layer's attention adds to hidden states [rows, hidden], the rows of the segments in order."""
        spans = self._spans(segments)
        weights = self.weights.layers[layer]
        x = self.normed(hidden, weights.attn_norm)
        return self._attention(layer, weights, x, spans, self._turns(spans), []).float()

    def _turns(self, spans: Sequence[Span]) -> list[torch.Tensor]:
        """What turns each row, by each of the model's rotations."""
        positions = torch.cat([torch.arange(span.start, span.start + span.b - span.a) for span in spans])
        scalings = [rope.scaling for rope in self.spec.ropes]
        magnitudes = [scaling.magnitude if isinstance(scaling, Yarn) else 1.0 for scaling in scalings]
        pairs = zip(self._frequencies, magnitudes, strict=True)
        return [rotations(positions, turning, magnitude) for turning, magnitude in pairs]

    def _head(self, hidden: torch.Tensor) -> Logits:
        """Logits; below float32 the best candidates are computed again in float32.

        Bfloat16 leaves three digits of a logit: without this, ties among the best would decide greedy answers.
        """
        weights, spec = self.weights, self.spec
        final = functional.rms_norm(hidden, weights.norm.shape, weights.norm, spec.norm_eps)
        logits = product(final.to(weights.embed.dtype), weights.head).float()
        if weights.embed.dtype != torch.float32 and len(logits):
            best = logits.topk(min(REFINED, spec.vocab_size), dim=-1).indices
            rows = weights.embed if isinstance(weights.head, Packed) else weights.head
            exact = torch.bmm(rows[best].float(), final.unsqueeze(-1)).squeeze(-1)
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
        self,
        i: int,
        layer: LayerWeights,
        x: torch.Tensor,
        spans: list[Span],
        turns: list[torch.Tensor],
        worn: list[Worn],
    ) -> torch.Tensor:
        inward = put_on(worn, i, "qkv", x, product(x, layer.qkv, layer.qkv_bias))
        queries, keys, values = self._heads(layer, inward, turns[self.spec.layers[i].second_rope])
        window = self.spec.layers[i].window
        seen = []
        for span in spans:
            rows = slice(span.a, span.b)
            seen.append(self._of_span(i, span, window, queries[rows], keys[rows], values[rows]))
        mixed = seen[0] if len(seen) == 1 else torch.cat(seen)
        if layer.latent is not None:
            mixed = raised(layer.latent, mixed)
        return put_on(worn, i, "out", mixed, product(mixed, layer.out, layer.out_bias))

    def _heads(
        self, layer: LayerWeights, inward: torch.Tensor, turns: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries [rows, heads, head_dim], keys and values [rows, kv_heads, head_dim]; values may be narrower."""
        spec = self.spec
        if layer.latent is not None and spec.latent is not None:
            queries, keys = latent_heads(spec.latent, layer.latent, inward, turns)
            return queries, keys, keys[..., : spec.latent.rank]
        heads = inward.view(len(inward), -1, spec.head_dim)
        rotary, values = heads[:, : -spec.kv_heads], heads[:, -spec.kv_heads :]
        if layer.q_norm is not None and layer.k_norm is not None:
            queries = self._head_normed(rotary[:, : spec.heads], layer.q_norm)
            rotary = torch.cat([queries, self._head_normed(rotary[:, spec.heads :], layer.k_norm)], dim=1)
        rotary = rotated(rotary, turns)
        return rotary[:, : spec.heads], rotary[:, spec.heads :], values

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
        """[rows, heads * elements of a value] of what `_folded` led to."""
        spec = self.spec
        unfolded = mixed.reshape(spec.kv_heads, self._group, rows, -1).permute(2, 0, 1, 3)
        return unfolded.reshape(rows, -1)

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
