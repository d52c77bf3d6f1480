"""Trains the verifier on a labelled stream and certifies thresholds on scores of models that never saw the class.

Folds divide neither an answer's class nor near-identical texts; the thresholds come from replaying the real search.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway.cache.certificate import DELTA, NOTHING, Certificate, Tally, certify, design_effect
from gateway.cache.classes import ClassesModel
from gateway.cache.learner import Groups, Learner, Stream, divided
from gateway.cache.logged import Logged, LoggedLessons
from gateway.cache.partition import Vector
from gateway.cache.replay import Decided, StreamRow, judge_of, replay
from gateway.cache.semantic import ELSE, Candidate, Entry, Judge, Thresholds
from gateway.cache.taught import TaughtClasses, confusion, served, teach
from gateway.cache.verifier import Model, Verifier

Told = Callable[[str, float], None]
Pairs = Mapping[tuple[str, str], int]
GRID = (0.8, 0.85, 0.88, 0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98)
FOLDS = 5
# The shares for which settings by the classifier's categories are looked for, beside the one that is asked for.
ALPHAS = (0.1, 0.05, 0.03, 0.02)


@dataclass(frozen=True, slots=True)
class Served:
    """What holds where the gateway itself tells the categories: the classifier, and by alpha what is certified so."""

    model: ClassesModel
    settings: Mapping[float, Mapping[str, Certificate]]
    by_threshold: Mapping[float, Mapping[str, Tally]]
    confusion: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A trained model, the thresholds that the stream certifies, and what it did at them out of fold.

    `served` is None where the stream has too few categories to tell apart.
    """

    model: Model
    thresholds: Thresholds
    certificates: Mapping[str, Certificate]
    by_threshold: Mapping[float, Mapping[str, Tally]]
    others: Sequence[Mapping[float, Mapping[str, Tally]]] = ()
    served: Served | None = None


@dataclass(frozen=True, slots=True)
class Goal:
    """What is wanted: at most `alpha` wrong hits of hits (or of requests), pooled or for each category by itself.

    Without `certain` the observed share is held against alpha in place of its bound: nothing is certified then.
    `by_answer`: hits of the same answers count as the dependent ones that they are, and a category with fewer than
    `least_answers` answers is no sample of its kind: it is left out and gets exact hits only.
    """

    alpha: float
    of_requests: bool = False
    each: bool = False
    certain: bool = True
    by_answer: bool = False
    least_answers: int = 30
    grid: tuple[float, ...] = GRID
    folds: int = FOLDS
    seed: int = 0


def calibrate(
    stream: Stream, also: Sequence[Stream], embedder: str, goal: Goal, told: Told, logged: Logged | None = None
) -> Calibrated:
    """Train on all streams; certify on replays of the first one, every score of which is out of fold.

    Pairs that were `logged` are learned from too; a fold's model sees none that is near-identical to what it judges.
    """
    learner = Learner((stream, *also), embedder, goal.seed)
    lessons = None if logged is None else LoggedLessons(logged, learner, (stream, *also))

    def trained(chosen: npt.NDArray[np.bool_]) -> Model:
        return learner.model(chosen, None if lessons is None else lessons.of(chosen))

    folds = divided(learner.groups, goal.folds, goal.seed)
    judges = []
    for fold in range(goal.folds):
        told("training", fold / (goal.folds + 1))
        judges.append(judge_of(Verifier(trained(folds != fold))))
    model = trained(np.ones(len(folds), dtype=np.bool_))
    judge = out_of_fold(judges, folds)
    replayed: list[Replayed] = []
    start = 0
    for place, one in enumerate((stream, *also)):
        asked = learner.asked[start : start + len(one.rows)]
        start += len(one.rows)
        what = "replaying" if place == 0 else "replaying the others"
        replayed.append(replays(one.rows, asked, judge, goal, partial(told, what)))
    certificates = replayed[0].certified(goal)
    thresholds = thresholds_of(certificates, {row.category for row in stream.rows})
    taught = teach((stream, *also), folds, embedder)
    by_classes = None
    if taught is not None:
        replaying = partial(told, "replaying by classes")
        by_classes = _served(stream.rows, learner.asked, taught, out_of_fold(judges, folds), goal, replaying)
    curve, *others = (one.by_threshold for one in replayed)
    return Calibrated(model, thresholds, certificates, curve, others, by_classes)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What every setting of the grid did, by category; `pairs` counts its hits by the right and the served answer."""

    by_threshold: Mapping[float, Mapping[str, Tally]]
    pairs: Mapping[float, Mapping[str, Pairs]]
    answers: Mapping[str, int]

    def certified(self, goal: Goal, delta: float = DELTA) -> dict[str, Certificate]:
        """The certificate of each category, or one for all under ELSE."""
        names = sorted({name for told in self.by_threshold.values() for name in told})
        if goal.by_answer:
            few = [name for name in names if self.answers[name] < goal.least_answers]
            found = {name: replace(NOTHING, alpha=goal.alpha) for name in few}
            names = [name for name in names if name not in few]
        else:
            found = {}
        if goal.each:
            return found | {name: self._of((name,), goal, delta) for name in names}
        return found | {ELSE: self._of(names, goal, delta)}

    def _of(self, names: Sequence[str], goal: Goal, delta: float) -> Certificate:
        """Of some categories together."""
        told = {
            at: sum((tallies.get(name, Tally()) for name in names), start=Tally())
            for at, tallies in self.by_threshold.items()
        }
        effects = None
        if goal.by_answer:
            effects = {
                at: design_effect(
                    {pair: count for name in names for pair, count in by_name.get(name, {}).items()},
                    told[at].requests if goal.of_requests else None,
                )
                for at, by_name in self.pairs.items()
            }
        return certify(
            told, goal.alpha, of_requests=goal.of_requests, certain=goal.certain, delta=delta, effects=effects
        )


def replays(
    rows: Sequence[StreamRow], asked: Sequence[Entry], judge: Judge, goal: Goal, told: Callable[[float], None]
) -> Replayed:
    """Every setting of the grid, replayed."""
    by_threshold, pairs = {}, {}
    for step, threshold in enumerate(goal.grid):
        told(step / len(goal.grid))
        decided = list(replay(rows, asked, judge, Thresholds({ELSE: threshold})))
        by_threshold[threshold] = tallies(rows, decided)
        pairs[threshold] = served_pairs(rows, decided)
    answers = Counter(name for name, _ in {(row.category, row.answer_id) for row in rows})
    return Replayed(by_threshold, pairs, answers)


def served_pairs(rows: Sequence[StreamRow], decided: Iterable[Decided]) -> dict[str, Pairs]:
    """By category, how often which answer was served where which was right."""
    found: dict[str, Counter[tuple[str, str]]] = {}
    for row, one in zip(rows, decided, strict=True):
        if one.answer_id is not None:
            found.setdefault(row.category, Counter())[row.answer_id, one.answer_id] += 1
    return dict(found)


def thresholds_of(certificates: Mapping[str, Certificate], names: Iterable[str]) -> Thresholds:
    """What certificates allow these categories; all others exact hits only."""
    found = {name: certificates.get(name, certificates.get(ELSE, NOTHING)).threshold for name in sorted(names)}
    return Thresholds({**found, ELSE: None})


def _served(
    given: Sequence[StreamRow],
    asked: Sequence[Entry],
    taught: TaughtClasses,
    judge: Judge,
    goal: Goal,
    told: Callable[[float], None],
) -> Served:
    """The same stream, each category as the classifier tells it out of fold. `judge` must remember nothing yet."""
    topics = taught.topics[: len(given)]
    rows, entries = served(given, asked[: len(given)], topics)
    replayed = replays(rows, entries, judge, goal, told)
    settings = {
        alpha: best(replayed, replace(goal, alpha=alpha)) for alpha in sorted({*ALPHAS, goal.alpha}, reverse=True)
    }
    return Served(taught.model, settings, replayed.by_threshold, confusion([row.category for row in given], topics))


def best(replayed: Replayed, goal: Goal) -> dict[str, Certificate]:
    """The certificates that allow the most hits: one for all, or each category's own; half of delta is either's."""
    both = [replayed.certified(replace(goal, each=each), DELTA / 2) for each in (False, True)]
    return max(both, key=lambda one: sum(certificate.tally.hits for certificate in one.values()))


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

    def judge(query: Entry, candidates: Sequence[Candidate], cosines: Vector) -> npt.NDArray[np.float64]:
        keys = (query.key, *(candidate.key for candidate in candidates))
        if keys not in known:
            chosen = judges[int(folds[int(query.key)])]
            known[keys] = chosen(query, candidates, cosines)
        return known[keys]

    return judge


def told_of(calibrated: Calibrated, goal: Goal) -> dict[str, Any]:
    """What a configuration says of itself: the goal, certificates, and the whole curve by category."""
    found = {
        "alpha": goal.alpha,
        "of": "requests" if goal.of_requests else "hits",
        "certified": goal.certain,
        "certificates": {name: asdict(one) for name, one in calibrated.certificates.items()},
        "curve": _curve(calibrated.by_threshold),
    }
    if calibrated.served is not None:
        found["served"] = _told_of_served(calibrated.served)
    return found


def _told_of_served(told: Served) -> dict[str, Any]:
    return {
        "settings": [
            {
                "alpha": alpha,
                "thresholds": dict(thresholds_of(certificates, told.model.names).by_category),
                "certificates": {name: asdict(one) for name, one in certificates.items()},
            }
            for alpha, certificates in told.settings.items()
        ],
        "confusion": told.confusion,
        "curve": _curve(told.by_threshold),
    }


def _curve(by_threshold: Mapping[float, Mapping[str, Tally]]) -> dict[str, dict[str, list[int]]]:
    return {
        f"{at:g}": {name: [one.requests, one.hits, one.wrong] for name, one in told.items()}
        for at, told in by_threshold.items()
    }
