"""The seam between a store of keys and values and the rule for what of it stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import torch

# Pages of slack: choosing anew at every token would cost more than it frees.
SLACK: Final = 16
# The last queries that say what is still asked for, and whose own keys always stay (SnapKV, arXiv:2404.14469).
OBSERVED: Final = 32
_SMOOTHED: Final = 5


class Held(Protocol):
    """One layer's keys and values of one sequence, as a policy sees them."""

    @property
    def count(self) -> int:
        """Keys a head."""

    def attention(self) -> torch.Tensor:
        """Probabilities that the last queries give to keys: float32 [kv_heads, group * queries, count]."""


class KvPolicy(Protocol):
    """What stays of a sequence's keys and values.

    `observed`: how many of its last queries are remembered for `keep`. `after_prompt`: nothing is dropped before the
    prompt is complete, so that its end says what of it matters; it takes its full memory until then.
    """

    observed: int
    after_prompt: bool

    def bits(self, layer: int) -> tuple[int, int] | None:
        """Bits of keys and of values (2, 4, 8); None: as they were computed."""

    def keep(self, layers: Sequence[Held]) -> list[torch.Tensor] | None:
        """Indices that stay, ascending, int64 [kv_heads, kept] for each layer; None: all of all layers."""


def importance(attention: torch.Tensor, heads_of: int = 1, spread: float = 0.0) -> torch.Tensor:
    """[kv_heads, count]: mean over queries and `spread` times their variance, smoothed over neighbours.

    The keys of the last queries themselves are infinitely important. `heads_of`: query heads a key-value head.
    """
    by_head = attention.unflatten(1, (heads_of, -1))
    found = by_head.mean(2)
    if spread:
        found = found + spread * by_head.var(2, unbiased=False)
    found = torch.nn.functional.max_pool1d(found.mean(1).unsqueeze(0), _SMOOTHED, 1, _SMOOTHED // 2).squeeze(0)
    found[:, -OBSERVED:] = torch.inf
    return found


def best(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Indices of the `count` highest of each row, ascending."""
    return scores.topk(min(count, scores.shape[1]), dim=1).indices.sort(dim=1).values


def overfull(layers: Sequence[Held], budget: int) -> bool:
    """Whether layers hold more than `budget` keys a head on average, beyond the slack."""
    return sum(layer.count for layer in layers) > (budget + SLACK) * len(layers)


def check_budget(budget: int, least: int) -> None:
    """ValueError where the budget can't hold what a policy never drops."""
    if budget < least:
        raise ValueError(f"kv_policy: a budget of {budget} tokens is too small; give at least {least}")
