"""Which layers bear fewer bits for keys and values: an offline search (KVTuner, arXiv:2502.04420)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

Pair = tuple[int, int]
BEST: Final[Pair] = (8, 8)
# Keys get no fewer bits than values: all layers' scores depend on them.
LOWER: Final[tuple[Pair, ...]] = ((8, 4), (4, 4), (4, 2), (2, 2))
_AS_COMPUTED: Final[Pair] = (16, 16)


def sensitivities(layers: int, harm: Callable[[Sequence[Pair]], float]) -> list[dict[Pair, float]]:
    """What each layer's rounding alone costs, by pair; `harm` judges pairs of all layers (16, 16: as computed)."""
    return [{pair: harm(_alone(layers, i, pair)) for pair in LOWER} for i in range(layers)]


def cheapest(sensitive: Sequence[dict[Pair, float]], bits: float) -> list[Pair]:
    """Pairs of at most `bits` on average over keys, values and layers: always the step that costs least a bit saved.

    Costs of layers are taken to add up; the paper searches all combinations of groups of layers instead.
    """
    if bits < 2:
        raise ValueError(f"bits must be at least 2 on average, not {bits}")
    chosen = [BEST] * len(sensitive)
    while sum(map(sum, chosen)) > 2 * bits * len(chosen):
        steps = [(i, pair) for i, now in enumerate(chosen) for pair in LOWER if sum(pair) < sum(now)]
        i, pair = min(steps, key=lambda step: _price(sensitive[step[0]], chosen[step[0]], step[1]))
        chosen[i] = pair
    return chosen


def _price(costs: dict[Pair, float], now: Pair, then: Pair) -> float:
    return (costs[then] - costs.get(now, 0.0)) / (sum(now) - sum(then))


def _alone(layers: int, i: int, pair: Pair) -> list[Pair]:
    return [pair if at == i else _AS_COMPUTED for at in range(layers)]
