"""Which settings of a configuration are borne out by checks of what it has served: kept, made stricter, or closed.

Never looser: what a setting has kept back nobody has seen. Counts and names in; it reads no store and no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, log

from gateway.cache.calibrate import GRID
from gateway.cache.certificate import DELTA, NOTHING, Certificate, Tally, certify, design_effect
from gateway.cache.semantic import Thresholds
from gateway.ledger.cache_evidence import CheckedPair

Settings = Sequence[tuple[float, Thresholds]]


@dataclass(frozen=True, slots=True)
class Shown:
    """What checks say of a topic's setting for a share, `was` its threshold. So many `pairs` count at most for one
    threshold, of so many cached `questions`; `certificate` is for the one that may be kept, if any may."""

    share: float
    topic: str
    was: float
    pairs: int
    questions: int
    needed: int
    certificate: Certificate


def recertified(settings: Settings, pairs: Sequence[CheckedPair], calibration: str, least: int) -> list[Shown]:
    """Of each open setting the loosest threshold, from its own up, whose bound on wrong answers its checks keep.

    A check counts for a threshold that its score reaches, where the setting by which its answer was given is no
    stricter: of all that such a threshold serves it is a sample then. Answers to one cached question count as
    dependent, and fewer than `least` cached questions certify nothing. With probability >= 1 - DELTA no share is larger
    than its bound. `ValueError` where no open setting has pairs enough to be certified if all of them were right.
    """
    by_share = dict(settings)
    opened = [
        (share, topic, at)
        for share, thresholds in settings
        for topic, at in thresholds.by_category.items()
        if at is not None
    ]
    if not opened:
        raise ValueError("the configuration in use gives no answers by likeness: it has no setting to certify")
    given = [_Given(pair, _given_at(by_share, pair)) for pair in pairs if pair.calibration == calibration]
    found = []
    for share, topic, at in opened:
        ours = [one for one in given if one.pair.topic == topic]
        found.append(_shown(share, topic, at, ours, DELTA / len(opened), least))
    if not any(one.pairs >= one.needed and one.questions >= least for one in found):
        raise ValueError(_too_few(found, len(pairs), least))
    return found


def tightened(settings: Settings, shown: Sequence[Shown]) -> list[tuple[float, Thresholds]]:
    """The settings with what checks have left of them."""
    at = {(one.share, one.topic): one.certificate.threshold for one in shown}
    return [
        (share, Thresholds({topic: at.get((share, topic)) for topic in thresholds.by_category}))
        for share, thresholds in settings
    ]


@dataclass(frozen=True, slots=True)
class _Given:
    """`at`: the threshold by which the answer was given."""

    pair: CheckedPair
    at: float | None

    def counts(self, threshold: float) -> bool:
        """Whether it is of what a threshold serves, and any such might have been it."""
        return self.at is not None and self.at <= threshold <= (self.pair.score or 0.0)


def _given_at(by_share: Mapping[float, Thresholds], pair: CheckedPair) -> float | None:
    thresholds = by_share.get(pair.share) if pair.share is not None else None
    return None if thresholds is None else thresholds.of(pair.topic, pair.topic)


def _shown(share: float, topic: str, at: float, given: Sequence[_Given], delta: float, least: int) -> Shown:
    grid = sorted({at, *(one for one in GRID if one > at)})
    each = delta / len(grid)
    counted = {threshold: [one.pair for one in given if one.counts(threshold)] for threshold in grid}
    questions = {threshold: len({pair.cached for pair in some}) for threshold, some in counted.items()}
    certificate = replace(NOTHING, alpha=share, delta=each)
    for threshold, stricter in zip(grid, [*grid[1:], inf], strict=True):
        # Where nothing was seen below the stricter one, it has served the same.
        is_seen = any((pair.score or 0.0) < stricter for pair in counted[threshold])
        if is_seen and questions[threshold] >= least and certificate.threshold is None:
            certificate = _certified(threshold, counted[threshold], share, each)
    needed = ceil(log(each) / log(1 - share))
    return Shown(share, topic, at, max(map(len, counted.values())), max(questions.values()), needed, certificate)


def _certified(threshold: float, pairs: Sequence[CheckedPair], share: float, delta: float) -> Certificate:
    tally = Tally(len(pairs), len(pairs), sum(not pair.same for pair in pairs))
    effect = design_effect(Counter(map(_answers, pairs)))
    return certify({threshold: tally}, share, delta=delta, effects={threshold: effect})


def _answers(pair: CheckedPair) -> tuple[str, str]:
    """The right answer and the one that was served, by the question that has it."""
    return (pair.cached if pair.same else f"not {pair.cached}: {pair.asked}"), pair.cached


def _too_few(found: Sequence[Shown], pairs: int, least: int) -> str:
    told = "; ".join(
        f"{one.topic} for {one.share:g} has {one.pairs} and needs {one.needed}"
        + (f" (of {one.questions} cached questions, and needs {least})" if one.pairs >= one.needed else "")
        for one in found
    )
    return f"the checks that were logged certify no setting of the configuration in use, {pairs} in all: {told}"
