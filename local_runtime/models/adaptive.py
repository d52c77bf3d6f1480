"""A torch model whose layers are computed as a policy says, prompt by prompt and token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from local_runtime.decoding.layers.base import Act, LayerPolicy
from local_runtime.kv.cache import PagedCache
from local_runtime.models.base import Logits, Segment
from local_runtime.models.feed_forward import feed_forward
from local_runtime.models.packed import product
from local_runtime.models.spec import ModelSpec
from local_runtime.models.transformer import Span, Transformer
from local_runtime.models.weights import ModelWeights


class AdaptiveDepth(Transformer):
    """Segments are computed one by one; `policy` makes what decides for a sequence.

    Where a token leaves a layer out, the layer's keys and values are those of the state that went past it, so that
    tokens behind it find something there (as CALM does, arXiv:2207.07061). `computed` counts layers of single tokens,
    `tokens` those tokens. For dense models.
    """

    def __init__(
        self, spec: ModelSpec, weights: ModelWeights, cache: PagedCache, policy: Callable[[], LayerPolicy]
    ) -> None:
        super().__init__(spec, weights, cache)
        self.shares = False
        self.policies: dict[int, LayerPolicy] = {}
        self.computed = self.tokens = 0
        self._policy = policy

    @torch.inference_mode()
    def forward(self, segments: Sequence[Segment]) -> Logits:
        """See LanguageModel.forward."""
        return np.concatenate([self._one(segment) for segment in segments])

    def _one(self, segment: Segment) -> Logits:
        if segment.start == 0:
            self.policies[segment.pages[0]] = self._policy()
        policy = self.policies[segment.pages[0]]
        (span,) = spans = self._spans([segment])
        turns = self._turns(spans)
        hidden = self.weights.embed[torch.tensor(list(segment.tokens))].float() * self.spec.embed_scale
        if segment.start == 0 or len(segment.tokens) > 1:
            self._prompt(policy, hidden, spans, turns)
        else:
            hidden = self._token(policy, hidden, span, turns)
        policy.ended(segment.tokens[-1], hidden[-1])
        return self._head(hidden[len(hidden) - segment.logits :])

    def _prompt(self, policy: LayerPolicy, hidden: torch.Tensor, spans: list[Span], turns: list[torch.Tensor]) -> None:
        for i in self.layers:
            if policy.of_prompt(i, hidden):
                self._computed(policy, i, hidden, spans, turns)
            else:
                self._remember(i, hidden, spans[0], turns)

    def _token(self, policy: LayerPolicy, hidden: torch.Tensor, span: Span, turns: list[torch.Tensor]) -> torch.Tensor:
        """The hidden state [1, hidden] that the next token is read from."""
        self.tokens += 1
        left: int | None = None
        for i in self.layers:
            act = policy.of_token(i, hidden[0]) if left is None else Act.LEAVE
            if act is Act.COMPUTE:
                self._computed(policy, i, hidden, [span], turns)
                self.computed += 1
                continue
            left = i if act is Act.LEAVE and left is None else left
            self._remember(i, hidden, span, turns)
        return hidden if left is None else policy.read(left, hidden[0]).unsqueeze(0)

    def _computed(
        self, policy: LayerPolicy, i: int, hidden: torch.Tensor, spans: list[Span], turns: list[torch.Tensor]
    ) -> None:
        layer, before = self.weights.layers[i], hidden.clone()
        mixed = self._attention(i, layer, self.normed(hidden, layer.attn_norm), spans, turns, [])
        hidden.add_(self._after(mixed, layer.attn_post_norm))
        inside = self.normed(hidden, layer.ffn_norm)
        hidden.add_(self._after(feed_forward(layer.ffn, inside, None), layer.ffn_post_norm))
        policy.changed(i, before, hidden)

    def _remember(self, i: int, hidden: torch.Tensor, span: Span, turns: list[torch.Tensor]) -> None:
        """Keys and values of what goes past a layer."""
        layer = self.weights.layers[i]
        inside = self.normed(hidden, layer.attn_norm)
        inward = product(inside, layer.qkv, layer.qkv_bias)
        _, keys, values = self._heads(layer, inward, turns[self.spec.layers[i].second_rope])
        self.cache.write(i, span.places, keys, values)
