"""The loosest setting of a grid that exact upper bounds for shares of errors allow. Counts in; it knows no cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from routers.training.risk import share_bound

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
        bound = share_bound(tally.wrong, trials, each) if certain else tally.wrong / max(1, trials)
        if bound <= alpha and tally.hits > best.tally.hits:
            best = Certificate(threshold, alpha, delta, len(by_threshold), tally, bound)
    return best
