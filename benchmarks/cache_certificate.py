"""Whether the cache's certificates hold: calibrated on one half of a labelled stream's groups, judged on the other.

    python -m benchmarks.cache_certificate --stream STREAM.jsonl [--also MORE.jsonl] [--resamples 200]

Models are trained once, out of fold, and near rows are found once; 3,000 rows are replayed for real to compare.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from gateway.cache.calibrate import GRID, Goal, Replayed, out_of_fold, served_pairs, tallies
from gateway.cache.learner import Learner, Stream, divided
from gateway.cache.replay import Decided, StreamRow, judge_of, read_stream, replay
from gateway.cache.semantic import CANDIDATES, ELSE, FLOOR, Entry, Judge, Thresholds
from gateway.cache.verifier import Verifier
from gateway.cli.outcomes import bars, reader
from gateway.cli.output import fail, print_table, settings_or_fail

MOST_NEAR = 400
GOALS = ((0.05, False), (0.03, False), (0.01, True))
Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]


class Ground:
    """A stream's rows, the nearest earlier rows of each, and what judges them; remembers every judgement."""

    def __init__(self, rows: list[StreamRow], asked: list[Entry], judge: Judge) -> None:
        self.rows = rows
        self.asked = asked
        self._judge = judge
        vectors = np.stack([one.vector for one in asked])
        self.near = [self._nearest(vectors, row) for row in range(len(rows))]
        self._known: dict[tuple[int, bytes], npt.NDArray[np.float64]] = {}

    @staticmethod
    def _nearest(vectors: npt.NDArray[np.float32], row: int) -> tuple[Places, npt.NDArray[np.float32]]:
        cosines = vectors[:row] @ vectors[row]
        found = np.flatnonzero(cosines >= FLOOR)
        found = found[np.argsort(-cosines[found], kind="stable")[:MOST_NEAR]]
        return found, cosines[found]

    def chances(self, row: int, inserted: Mask) -> tuple[Places, npt.NDArray[np.float64]]:
        """The nearest inserted rows and their probabilities."""
        near, cosines = self.near[row]
        places = np.flatnonzero(inserted[near])[:CANDIDATES]
        found = near[places]
        key = row, found.tobytes()
        if key not in self._known:
            candidates = [self.asked[one] for one in found.tolist()]
            self._known[key] = self._judge(self.asked[row], candidates, cosines[places]) if candidates else np.empty(0)
        return found, self._known[key]

    def replayed(self, part: Places, threshold: float) -> list[Decided]:
        """The decisions of those rows alone, in order."""
        inserted = np.zeros(len(self.rows), dtype=np.bool_)
        decided = []
        for row in part.tolist():
            found, chances = self.chances(row, inserted)
            best = int(np.argmax(chances)) if len(chances) else -1
            if best >= 0 and chances[best] >= threshold:
                served = self.rows[int(found[best])]
                decided.append(Decided(self.rows[row].id, True, served.answer_id, served.id, float(chances[best])))
            else:
                inserted[row] = True
                decided.append(Decided(self.rows[row].id, hit=False))
        return decided

    def all_settings(self, part: Places) -> Replayed:
        """What every setting does with those rows, as `calibrate` takes it."""
        rows = [self.rows[row] for row in part.tolist()]
        by_threshold, pairs = {}, {}
        for threshold in GRID:
            decided = self.replayed(part, threshold)
            by_threshold[threshold] = tallies(rows, decided)
            pairs[threshold] = served_pairs(rows, decided)
        self._known.clear()
        answers = Counter(name for name, _ in {(row.category, row.answer_id) for row in rows})
        return Replayed(by_threshold, pairs, answers)


def judged(ours: Replayed, theirs: Replayed, goal: Goal) -> tuple[float, bool]:
    """The share of requests that hit on the other half at what ours certifies, and whether too many were wrong."""
    certificates = ours.certified(goal)
    requests = hits = wrong = 0
    for name in theirs.answers:
        threshold = certificates[name if name in certificates else ELSE].threshold
        tally = theirs.by_threshold[GRID[0] if threshold is None else threshold][name]
        requests += tally.requests
        if threshold is not None:
            hits, wrong = hits + tally.hits, wrong + tally.wrong
    return hits / requests, wrong > goal.alpha * (requests if goal.of_requests else hits)


def main(
    stream: Annotated[Path, typer.Option(help="JSON Lines with id, query, category and answer_id.")],
    also: Annotated[list[Path] | None, typer.Option(help="More rows to learn from.")] = None,
    resamples: Annotated[int, typer.Option(min=1)] = 200,
    least_answers: Annotated[int, typer.Option(help="As of `cache calibrate`; a half has half of them.", min=1)] = 20,
) -> None:
    """Print how often the wrong share of the other half exceeds alpha, by the binomial bound and by answers."""
    settings = settings_or_fail()
    with bars() as watch:
        read = reader(settings, watch)
        streams = [
            Stream(rows, read.embed([row.query for row in rows])) for rows in map(read_stream, (stream, *(also or ())))
        ]
        learner = Learner(streams, read.embedder, 0)
        folds = divided(learner.groups, 5, 0)
        judges = [judge_of(Verifier(learner.model(folds != fold))) for fold in range(5)]
        rows = list(streams[0].rows)
        ground = Ground(rows, learner.asked[: len(rows)], _pure(judges, folds))
        _compare(ground, judges, folds)
        names, groups = np.unique(learner.groups[: len(rows)], return_inverse=True)
        halves = []
        for seed in range(resamples):
            watch("resampling", seed / resamples, "")
            ours = (np.random.default_rng(seed).random(len(names)) < 0.5)[groups]
            halves.append([ground.all_settings(np.flatnonzero(part)) for part in (ours, ~ours)])
    print_table(("bound", "alpha", "of", "exceeded %", "hits %"), _shown(halves, least_answers))


def _pure(judges: list[Judge], folds: Places) -> Judge:
    """As `out_of_fold`, without its memory, which 200 resamples would fill."""
    return lambda query, candidates, cosines: judges[int(folds[int(query.key)])](query, candidates, cosines)


def _compare(ground: Ground, judges: list[Judge], folds: Places) -> None:
    """The benchmark must do what the cache does."""
    part = np.arange(min(3000, len(ground.rows)))
    rows, asked = ground.rows[: len(part)], ground.asked[: len(part)]
    real = replay(rows, asked, out_of_fold(judges, folds), Thresholds({ELSE: 0.9}))
    if [(one.hit, one.of) for one in real] != [(one.hit, one.of) for one in ground.replayed(part, 0.9)]:
        fail("the benchmark's replay differs from the real one")


def _shown(halves: list[list[Replayed]], least_answers: int) -> list[tuple[Any, ...]]:
    shown = []
    for by_answer in (False, True):
        for alpha, of_requests in GOALS:
            goal = Goal(alpha, of_requests=of_requests)
            goal = replace(goal, by_answer=by_answer, least_answers=least_answers)
            found = [
                judged(ours, theirs, goal) for one, other in halves for ours, theirs in ((one, other), (other, one))
            ]
            exceeded = 100 * sum(one for _, one in found) / len(found)
            hits = 100 * sum(share for share, _ in found) / len(found)
            of = "requests" if of_requests else "hits"
            shown.append(("by answers" if by_answer else "binomial", alpha, of, f"{exceeded:.1f}", f"{hits:.1f}"))
    return shown


if __name__ == "__main__":
    typer.run(main)
