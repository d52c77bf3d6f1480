"""The transformer with a policy over its keys and values: each sequence has its own, and pages are numbers only."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from local_runtime.base import GenerationError
from local_runtime.kv.cache import CacheShape, PagedCache
from local_runtime.kv.policies.base import KvPolicy
from local_runtime.kv.private import Layer, PlainLayer, RoundedLayer
from local_runtime.models.attention import attention
from local_runtime.models.base import Logits, Segment
from local_runtime.models.spec import ModelSpec
from local_runtime.models.transformer import Span, Transformer
from local_runtime.models.weights import ModelWeights


class Compressed(Transformer):
    """As Transformer; after every pass the policy drops or rounds what each of its sequences holds.

    A sequence is known by its first page; one that begins takes the place of what held any of its pages before. No
    beginnings are shared, since what is kept depends on what came after.
    """

    def __init__(self, spec: ModelSpec, weights: ModelWeights, pages: int, policy: KvPolicy) -> None:
        dtype = weights.embed.dtype
        super().__init__(spec, weights, PagedCache(CacheShape(0, 0, spec.kv_heads, spec.head_dim), dtype))
        self.shares = False
        self.page_count = pages
        self.policy = policy
        self._held: dict[int, list[Layer]] = {}
        self._lengths: dict[int, int] = {}
        rounds = any(isinstance(layer, RoundedLayer) for layer in self._new_layers())
        if rounds and spec.head_dim % 4:
            raise ValueError(
                f"kv_policy: heads of {spec.head_dim} can't be rounded, only multiples of 4; choose another"
            )

    @property
    def bytes(self) -> int:
        """What keys and values take now."""
        return sum(layer.bytes for layers in self._held.values() for layer in layers)

    @torch.inference_mode()
    def forward(self, segments: Sequence[Segment]) -> Logits:
        """See LanguageModel.forward. A segment that wants logits ends its prompt, if it had not ended before."""
        for segment in segments:
            self._open(segment)
        logits = super().forward(segments)
        for segment in segments:
            self._settle(segment)
        return logits

    def _new_layers(self) -> list[Layer]:
        spec, policy = self.spec, self.policy
        pairs = [policy.bits(i) for i in range(len(spec.layers))]
        return [
            PlainLayer(policy.observed, spec.score_scale, spec.attn_cap) if pair is None else RoundedLayer(pair)
            for pair in pairs
        ]

    def _open(self, segment: Segment) -> None:
        first = segment.pages[0]
        for page in segment.pages[1:]:
            self._held.pop(page, None)
            self._lengths.pop(page, None)
        if segment.start == 0:
            self._held[first], self._lengths[first] = self._new_layers(), 0
        if first not in self._held or self._lengths[first] != segment.start:
            raise GenerationError(f"position {segment.start} does not follow what was computed: begin anew at 0")
        self._lengths[first] += len(segment.tokens)

    def _settle(self, segment: Segment) -> None:
        layers = self._held[segment.pages[0]]
        for layer in layers:
            if isinstance(layer, RoundedLayer):
                layer.settle()
        if segment.logits or not self.policy.after_prompt:
            for layer, chosen in zip(layers, self.policy.keep(layers) or (), strict=False):
                layer.keep(chosen)

    def _span(self, segment: Segment, a: int) -> Span:
        """Places are not used here: the first page says whose keys these are."""
        return Span(a, a + len(segment.tokens), segment.start, torch.tensor(segment.pages[:1]), {})

    def _of_span(
        self, i: int, span: Span, window: int | None, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        layer = self._held[int(span.places)][i]
        layer.append(span.start, queries, keys, values)
        all_keys, all_values, positions = layer.read()
        rows, spec = len(queries), self.spec
        mask = self._hidden(positions, span.start, rows, window)
        folded = self._folded(queries)
        mixed = attention(folded, all_keys.unsqueeze(0), all_values.unsqueeze(0), mask, spec.score_scale, spec.attn_cap)
        return self._unfolded(mixed, rows)

    def _hidden(self, positions: torch.Tensor, start: int, rows: int, window: int | None) -> torch.Tensor | None:
        """Additive mask [1, kv_heads, group * rows, count]; None where one row sees all."""
        if rows == 1 and not window:
            return None
        at = torch.arange(start, start + rows).view(1, rows, 1)
        seen = positions.unsqueeze(1)
        hidden = seen > at
        if window:
            hidden = hidden | (seen <= at - window)
        mask = torch.zeros(hidden.shape, dtype=self.weights.embed.dtype).masked_fill_(hidden, float("-inf"))
        return mask.repeat(1, self._group, 1).unsqueeze(0)
