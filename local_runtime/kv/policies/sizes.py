"""How many keys each layer may keep when all together may keep so many. Knows numbers and sorted importance only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

_HALVINGS = 60
_SMALLEST = 1e-6


def shares(weights: Sequence[float], total: int, least: int, most: Sequence[int]) -> list[int]:
    """Sizes in proportion to `weights` (all 0: alike), each between `least` and its `most`.

    Their sum is at most `total`, as long as `least` for each is; what one can't take goes to the others.
    """
    top = max(weights)
    parts = [max(weight / top, _SMALLEST) if top > 0 else 1.0 for weight in weights]

    def sizes(unit: float) -> list[int]:
        return [min(bound, max(least, int(unit * part))) for part, bound in zip(parts, most, strict=True)]

    return _most(sizes, (max(most) + 1) / min(parts), total)


def prefixes(sorted_importance: Sequence[torch.Tensor], total: int, least: int) -> list[int]:
    """Sizes whose sum is at most `total` and that retain the same part of every layer's importance.

    Each tensor [count] is one layer's importance, highest first. The part is found by bisection (arXiv:2412.03409);
    no layer gets less than `least`, or all that it has.
    """
    curves = [(one.double() / one.double().sum()).cumsum(0) for one in sorted_importance]

    def sizes(part: float) -> list[int]:
        return [min(len(curve), max(least, int(torch.searchsorted(curve, part).item()) + 1)) for curve in curves]

    return _most(sizes, 1.0, total)


def _most(sizes: Callable[[float], list[int]], high: float, total: int) -> list[int]:
    """The largest of `sizes`, which grow between 0 and `high`, whose sum is at most `total`; else the smallest."""
    low = 0.0
    if sum(sizes(high)) <= total:
        return sizes(high)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(sizes(middle)) <= total else (low, middle)
    return sizes(low)
