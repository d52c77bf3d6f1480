"""Memory where layers prefer it, and keys that are or may come to be asked for (CAKE, arXiv:2503.12491)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from local_runtime.kv.policies.base import OBSERVED, Held, best, check_budget, importance, overfull
from local_runtime.kv.policies.sizes import shares

_SPREAD = 200.0


class Cake:
    """`budget` keys a head on average; a layer gets the more, the wider and the more restless its attention.

    Preference is entropy ** (1 / tau1) * variance ** (1 / tau2) of what the last queries attend to. Budgets are dealt
    out anew at every eviction; the paper's cascade over layers isn't needed where prompts come in chunks.
    """

    observed = OBSERVED

    def __init__(
        self, budget: int, group: int = 1, *, after_prompt: bool = True, tau1: float = 1.0, tau2: float = 1.0
    ) -> None:
        check_budget(budget, 2 * OBSERVED)
        self.after_prompt = after_prompt
        self._budget = budget
        self._group = group
        self._powers = (1 / tau1, 1 / tau2)

    def bits(self, layer: int) -> tuple[int, int] | None:
        """As computed."""
        return None

    def keep(self, layers: Sequence[Held]) -> list[torch.Tensor] | None:
        """See KvPolicy.keep."""
        if not overfull(layers, self._budget):
            return None
        seen = [layer.attention() for layer in layers]
        counts = [layer.count for layer in layers]
        sizes = shares([self.preference(one) for one in seen], self._budget * len(layers), OBSERVED, counts)
        pairs = zip(seen, sizes, strict=True)
        return [best(importance(one, self._group, _SPREAD), size) for one, size in pairs]

    def preference(self, attention: torch.Tensor) -> float:
        """How much memory a layer wants, from probabilities [kv_heads, group * queries, count]."""
        by_head = attention.unflatten(1, (self._group, -1))
        entropy = torch.special.entr(by_head).sum(-1).mean()
        variance = by_head.var(2, unbiased=False).sum(-1).mean()
        return float(entropy ** self._powers[0] * variance ** self._powers[1])
