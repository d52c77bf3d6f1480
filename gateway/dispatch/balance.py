"""Which endpoint of a model is called: two are drawn, the one with less to do wins. Pure but for the random numbers."""

from __future__ import annotations

import random
from collections.abc import Sequence

# The one drawn first keeps its place unless the other is clearly better: latencies always differ a little, and their
# noise should not move all traffic from one endpoint to another.
CLEARLY_BETTER = 0.8


def two_choices(weights: Sequence[float], loads: Sequence[float], rng: random.Random) -> list[int]:
    """All indices in the order in which they should be tried; `ValueError` for fewer than two.

    Two are drawn by weight; of these the one with less load (latency in ms x (calls in flight + 1)) for its weight
    is first. The others follow by load. Two choices instead of the best of all: many workers that share an outdated
    view would otherwise all rush to the same endpoint (Mitzenmacher, The power of two choices, 2001).
    """
    if len(weights) < 2:
        raise ValueError("there is nothing to choose from")
    if len(weights) == 2:  # by far the most frequent case
        first = 0 if rng.random() * (weights[0] + weights[1]) < weights[0] else 1
        better = loads[1 - first] * weights[first] < CLEARLY_BETTER * loads[first] * weights[1 - first]
        return [1 - first, first] if better else [first, 1 - first]
    costs = [load / weight for load, weight in zip(loads, weights, strict=True)]
    first = _drawn(weights, rng, None)
    second = _drawn(weights, rng, first)
    winner = second if costs[second] < CLEARLY_BETTER * costs[first] else first
    others = sorted((index for index in range(len(weights)) if index != winner), key=costs.__getitem__)
    return [winner, *others]


def _drawn(weights: Sequence[float], rng: random.Random, without: int | None) -> int:
    """An index, as likely as its weight."""
    left = sum(weights) - (weights[without] if without is not None else 0.0)
    point = rng.random() * left
    last = 0
    for index, weight in enumerate(weights):
        if index == without:
            continue
        last = index
        point -= weight
        if point < 0:
            break
    return last
