"""The loosest setting of a grid that exact upper bounds for shares of errors allow. Counts in; it knows no cache."""

from __future__ import annotations

from collections import Counter, defaultdict
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
    effects: Mapping[float, float] | None = None,
) -> Certificate:
    """The loosest setting whose bound on wrong hits, as a share of hits or of requests, is at most alpha.

    Bonferroni over the grid: with probability >= 1 - delta no setting's bound is broken. Not `certain`: the observed
    share is compared in place of its bound, and nothing is promised.
    """
    each = delta / max(1, len(by_threshold))
    best = Certificate(None, alpha, delta, len(by_threshold), Tally(), 1.0)
    for threshold, tally in by_threshold.items():
        trials = tally.requests if of_requests else tally.hits
        effect = effects[threshold] if effects else 1.0
        bound = share_bound(tally.wrong / effect, trials / effect, each) if certain else tally.wrong / max(1, trials)
        if bound <= alpha and tally.hits > best.tally.hits:
            best = Certificate(threshold, alpha, delta, len(by_threshold), tally, bound)
    return best


def design_effect(pairs: Mapping[tuple[str, str], int], requests: int | None = None) -> float:
    """How much larger the variance of the share of wrong hits is than if every hit were drawn by itself; at least 1.

    `pairs` counts hits by the answer that was right and the one that was served. Two hits depend on each other where
    they have an answer in common, on either side (the dyadic variance of Fafchamps and Gubert, 2007); the share's
    effective number of trials is as in Korn and Graubard (1998). Of `requests` the share is one of those, not of hits.
    """
    wrong = sum(count for (right, served), count in pairs.items() if right != served)
    trials = requests or sum(pairs.values())
    if not 0 < wrong < trials:
        return 1.0
    share = wrong / trials
    by_answer: defaultdict[str, float] = defaultdict(float)
    twice: defaultdict[frozenset[str], float] = defaultdict(float)
    confused: Counter[frozenset[str]] = Counter()
    for (right, served), count in pairs.items():
        is_wrong = right != served
        excess = count * (is_wrong - (0.0 if requests else share))
        for answer in {right, served}:
            by_answer[answer] += excess
        if is_wrong:
            twice[frozenset((right, served))] += excess
            confused[frozenset((right, served))] += count
    variance = sum(one * one for one in by_answer.values()) - sum(one * one for one in twice.values())
    together = sum(count * count for count in confused.values()) / wrong
    return max(1.0, variance / (trials * share * (1 - share)), together)
