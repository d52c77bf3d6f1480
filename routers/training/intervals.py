"""Intervals round an estimate: the bootstrap's for reading, bounds that hold for any number of rows for deciding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from routers.training.dataset import Doubles, Indices

_BLOCK = 4_000_000
_STEP = 1e-4
_MOST_STAKED = 0.9


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its two-sided interval."""

    value: float
    low: float
    high: float


def ratio_intervals(
    above: Doubles, below: Doubles, *, groups: Indices | None, delta: float, resamples: int, seed: int
) -> list[Estimate]:
    """Bootstrap intervals of the S ratios sum(above) / sum(below), both [N, S]; a mean has ones below.

    Studentised by the ratio's own standard error in each resample (bootstrap-t), since weighted rewards are skewed.
    Rows of one group are drawn together.
    """
    if groups is not None:
        numbers = np.unique(groups, return_inverse=True)[1]
        above, below = _summed(above, numbers), _summed(below, numbers)
    count, many = above.shape
    columns = np.hstack([above, below, above * above, above * below, below * below])
    value, error = _ratios(columns.sum(axis=0, keepdims=True), many)
    rng = np.random.default_rng(seed)
    apart = []
    for begun in range(0, resamples, max(_BLOCK // count, 1)):
        size = min(max(_BLOCK // count, 1), resamples - begun)
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float64)
        values, errors = _ratios(drawn @ columns, many)
        apart.append((values - value) / np.maximum(errors, 1e-12))
    low, high = np.quantile(np.concatenate(apart), [delta / 2, 1 - delta / 2], axis=0)
    ends = (value[0] - high * error[0], value[0] - low * error[0])
    return [Estimate(*map(float, row)) for row in zip(value[0], *ends, strict=True)]


def bernstein_low(terms: Doubles, width: float, delta: float) -> float:
    """With probability 1 - delta the expectation is above this, if the N independent terms lie in an interval of
    `width` that was known before they were drawn (Maurer & Pontil 2009, theorems 4 and 11)."""
    count = len(terms)
    if count < 2:
        return -math.inf
    logarithm = math.log(2 / delta)
    spread = math.sqrt(2 * float(terms.var(ddof=1)) * logarithm / count)
    return float(terms.mean()) - spread - 7 * width * logarithm / (3 * (count - 1))


def betting_low(terms: Sequence[Doubles], least: Sequence[float], delta: float, seed: int = 0) -> float:
    """With probability 1 - delta the expectation is above this; tighter than Bernstein's, since only a floor is needed.

    `terms` are K lists of N independent numbers, each with an expectation at most the one in question and none under
    `least` of its list. A gambler bets on the next number being above m: his wealth, the mean over the lists of
    prod(1 + stake x (term - m)), passes 1 / delta with probability delta only, if the expectation is m (Waudby-Smith &
    Ramdas 2024; Karampatziakis, Mineiro & Ramdas 2021). Stakes look at the numbers before only, in a drawn order.
    """
    order = np.random.default_rng(seed).permutation(len(terms[0]))
    shuffled = np.stack([one[order] for one in terms])
    floors = np.asarray(least, dtype=np.float64)[:, None]
    stakes = _stakes(shuffled, delta)
    low, high = float(floors.max()), float(shuffled.mean(axis=1).max())
    if low >= high or _wealth(shuffled, stakes, floors, low + _STEP) < -math.log(delta):
        return low
    while high - low > _STEP:
        middle = (low + high) / 2
        if _wealth(shuffled, stakes, floors, middle) >= -math.log(delta):
            low = middle
        else:
            high = middle
    return low


def _stakes(terms: Doubles, delta: float) -> Doubles:
    """[K, N] what would be best for numbers of the variance seen so far."""
    count = terms.shape[1]
    seen = np.arange(1, count + 1)
    mean = (np.cumsum(terms, axis=1) + 0.0) / (seen + 1)
    variance = (0.25 + np.cumsum((terms - mean) ** 2, axis=1)) / (seen + 1)
    before = np.concatenate([np.full((len(terms), 1), 0.25), variance[:, :-1]], axis=1)
    found: Doubles = np.sqrt(2 * math.log(1 / delta) / (count * before))
    return found


def _wealth(terms: Doubles, stakes: Doubles, floors: Doubles, mean: float) -> float:
    """The logarithm of the gambler's wealth if he doubts that the expectation is `mean`."""
    bets = np.minimum(stakes, _MOST_STAKED / (mean - floors))
    logs = np.log1p(bets * (terms - mean)).sum(axis=1)
    peak = float(logs.max())
    return peak + math.log(float(np.exp(logs - peak).mean()))


def _ratios(sums: Doubles, many: int) -> tuple[Doubles, Doubles]:
    """[B, S] ratios and their standard errors from sums of above, below, above², above x below, below²."""
    above, below, squared, mixed, weight = (sums[:, at * many : (at + 1) * many] for at in range(5))
    below = np.where(below == 0, np.nan, below)
    value = np.nan_to_num(above / below)
    variance = squared - 2 * value * mixed + value * value * weight
    return value, np.nan_to_num(np.sqrt(np.maximum(variance, 0.0)) / np.abs(below))


def _summed(columns: Doubles, numbers: Indices) -> Doubles:
    found = np.zeros((int(numbers.max()) + 1, columns.shape[1]))
    np.add.at(found, numbers, columns)
    return found
