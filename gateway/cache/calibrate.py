"""Trains the verifier on a labelled stream and certifies thresholds on scores of models that never saw the class.

Folds divide neither an answer's class nor near-identical texts; the thresholds come from replaying the real search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway.cache.certificate import NOTHING, Certificate, Tally, certify
from gateway.cache.learner import Groups, Learner, Stream, divided
from gateway.cache.partition import Vector
from gateway.cache.replay import Decided, StreamRow, judge_of, replay
from gateway.cache.semantic import ELSE, Entry, Judge, Thresholds
from gateway.cache.verifier import Model, Verifier

Told = Callable[[str, float], None]
GRID = (0.8, 0.85, 0.88, 0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98)
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A trained model, the thresholds that the stream certifies, and what it did at them out of fold."""

    model: Model
    thresholds: Thresholds
    certificates: Mapping[str, Certificate]
    by_threshold: Mapping[float, Mapping[str, Tally]]
    others: Sequence[Mapping[float, Mapping[str, Tally]]] = ()


@dataclass(frozen=True, slots=True)
class Goal:
    """What is wanted: at most `alpha` wrong hits of hits (or of requests), pooled or for each category by itself.

    Without `certain` the observed share is held against alpha in place of its bound: nothing is certified then.
    """

    alpha: float
    of_requests: bool = False
    each: bool = False
    certain: bool = True
    grid: tuple[float, ...] = GRID
    folds: int = FOLDS
    seed: int = 0


def calibrate(stream: Stream, also: Sequence[Stream], embedder: str, goal: Goal, told: Told) -> Calibrated:
    """Train on all streams; certify on replays of the first one, every score of which is out of fold."""
    learner = Learner((stream, *also), embedder, goal.seed)
    folds = divided(learner.groups, goal.folds, goal.seed)
    judges = []
    for fold in range(goal.folds):
        told("training", fold / (goal.folds + 1))
        judges.append(judge_of(Verifier(learner.model(folds != fold))))
    model = learner.model(np.ones(len(folds), dtype=np.bool_))
    judge = out_of_fold(judges, folds)
    by_threshold: list[dict[float, dict[str, Tally]]] = []
    start = 0
    for place, one in enumerate((stream, *also)):
        asked = learner.asked[start : start + len(one.rows)]
        start += len(one.rows)
        by_threshold.append({})
        for step, threshold in enumerate(goal.grid):
            told("replaying" if place == 0 else "replaying the others", step / len(goal.grid))
            decided = replay(one.rows, asked, judge, Thresholds({ELSE: threshold}))
            by_threshold[-1][threshold] = tallies(one.rows, decided)
    certificates = certified(by_threshold[0], goal)
    names = sorted({row.category for row in stream.rows})
    thresholds = {name: certificates.get(name, certificates.get(ELSE, NOTHING)).threshold for name in names}
    return Calibrated(model, Thresholds({**thresholds, ELSE: None}), certificates, by_threshold[0], by_threshold[1:])


def certified(by_threshold: Mapping[float, Mapping[str, Tally]], goal: Goal) -> dict[str, Certificate]:
    """The certificate of each category, or one for all under ELSE."""

    def of(told: Mapping[float, Tally]) -> Certificate:
        return certify(told, goal.alpha, of_requests=goal.of_requests, certain=goal.certain)

    if not goal.each:
        return {ELSE: of({at: sum(told.values(), start=Tally()) for at, told in by_threshold.items()})}
    names = sorted({name for told in by_threshold.values() for name in told})
    return {name: of({at: told[name] for at, told in by_threshold.items()}) for name in names}


def tallies(rows: Sequence[StreamRow], decided: Iterable[Decided]) -> dict[str, Tally]:
    """What a replay did, by category."""
    found: dict[str, Tally] = {}
    for row, one in zip(rows, decided, strict=True):
        wrong = one.hit and one.answer_id != row.answer_id
        found[row.category] = found.get(row.category, Tally()) + Tally(1, one.hit, wrong)
    return found


def out_of_fold(judges: Sequence[Judge], folds: Groups) -> Judge:
    """The judge whose model never saw the query's group; it remembers, for settings meet mostly the same candidates."""
    known: dict[tuple[str, ...], npt.NDArray[np.float64]] = {}

    def judge(query: Entry, candidates: Sequence[Entry], cosines: Vector) -> npt.NDArray[np.float64]:
        keys = (query.key, *(candidate.key for candidate in candidates))
        if keys not in known:
            chosen = judges[int(folds[int(query.key)])]
            known[keys] = chosen(query, candidates, cosines)
        return known[keys]

    return judge


def told_of(calibrated: Calibrated, goal: Goal) -> dict[str, Any]:
    """What a configuration says of itself: the goal, certificates, and the whole curve by category."""
    return {
        "alpha": goal.alpha,
        "of": "requests" if goal.of_requests else "hits",
        "certified": goal.certain,
        "certificates": {name: asdict(one) for name, one in calibrated.certificates.items()},
        "curve": {
            f"{at:g}": {name: [one.requests, one.hits, one.wrong] for name, one in told.items()}
            for at, told in calibrated.by_threshold.items()
        },
    }
