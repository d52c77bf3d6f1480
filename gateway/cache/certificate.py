"""Exact upper bounds for shares of errors, and the loosest setting of a grid that they allow.

Counts in, bounds out; it knows no cache.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

DELTA = 0.05


@dataclass(frozen=True, slots=True)
class Tally:
    """What one setting did: requests seen, hits among them, wrong ones among those."""

    requests: int = 0
    hits: int = 0
    wrong: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.requests + other.requests, self.hits + other.hits, self.wrong + other.wrong)


@dataclass(frozen=True, slots=True)
class Certificate:
    """The loosest setting whose bound on wrong hits is at most alpha; `threshold` None where none is (exact only)."""

    threshold: float | None
    alpha: float
    delta: float
    settings: int
    tally: Tally
    bound: float


NOTHING = Certificate(None, 0.0, DELTA, 0, Tally(), 1.0)


def upper_bound(wrong: int, trials: int, delta: float) -> float:
    """Clopper and Pearson's (1934) one-sided upper bound of a binomial share: too low with probability <= delta."""
    if not 0 <= wrong <= trials:
        raise ValueError(f"{wrong} of {trials}")
    if trials in (0, wrong):
        return 1.0
    low, high = wrong / trials, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(wrong, trials, middle) > delta:
            low = middle
        else:
            high = middle
    return high


def certify(
    by_threshold: Mapping[float, Tally],
    alpha: float,
    *,
    of_requests: bool = False,
    certain: bool = True,
    delta: float = DELTA,
) -> Certificate:
    """The loosest setting whose bound on wrong hits, as a share of hits or of requests, is at most alpha.

    Bonferroni over the grid: with probability >= 1 - delta no setting's bound is broken. Not `certain`: the observed
    share is compared in place of its bound, and nothing is promised.
    """
    each = delta / max(1, len(by_threshold))
    best = Certificate(None, alpha, delta, len(by_threshold), Tally(), 1.0)
    for threshold, tally in by_threshold.items():
        trials = tally.requests if of_requests else tally.hits
        bound = upper_bound(tally.wrong, trials, each) if certain else tally.wrong / max(1, trials)
        if bound <= alpha and tally.hits > best.tally.hits:
            best = Certificate(threshold, alpha, delta, len(by_threshold), tally, bound)
    return best


def _at_most(count: int, trials: int, share: float) -> float:
    """P(X <= count) of a binomial, summed from the largest term down so that nothing overflows."""
    if share <= 0.0 or share >= 1.0:
        return 1.0 if share <= 0.0 or count >= trials else 0.0
    log_share, log_rest = math.log(share), math.log1p(-share)
    top = math.lgamma(trials + 1)
    terms = (
        top - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * log_share + (trials - k) * log_rest
        for k in range(count + 1)
    )
    return min(1.0, math.fsum(map(math.exp, terms)))
