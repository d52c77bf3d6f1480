"""The same part of importance in every layer, whatever number of keys that takes (PrefixKV, arXiv:2412.03409)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from local_runtime.kv.policies.base import OBSERVED, Held, best, check_budget, importance, overfull
from local_runtime.kv.policies.sizes import prefixes


class PrefixKv:
    """`budget` keys a head on average; layers whose attention lies on few keys keep few.

    Sizes are searched for each sequence from what its own last queries attend to (the paper also estimates them once
    from samples).
    """

    observed = OBSERVED

    def __init__(self, budget: int, group: int = 1, *, after_prompt: bool = True) -> None:
        check_budget(budget, 2 * OBSERVED)
        self.after_prompt = after_prompt
        self._budget = budget
        self._group = group

    def bits(self, layer: int) -> tuple[int, int] | None:
        """As computed."""
        return None

    def keep(self, layers: Sequence[Held]) -> list[torch.Tensor] | None:
        """See KvPolicy.keep."""
        if not overfull(layers, self._budget):
            return None
        seen = [layer.attention() for layer in layers]
        sorted_ = [one.mean(1).sort(dim=1, descending=True).values.mean(0) for one in seen]
        sizes = prefixes(sorted_, self._budget * len(layers), OBSERVED)
        return [best(importance(one, self._group), size) for one, size in zip(seen, sizes, strict=True)]
