"""Whether the verifier gets better by what it has served: taught by a stream's part, and by checked pairs beside it.

    python -m benchmarks.cache_from_log --stream STREAM.jsonl [--rounds 3]

A stream's groups (answers, templates and near-identical texts together) are divided at random: 40 % teach the first
model, 30 % it serves, which makes the log, and on 30 % models are compared. `noise`: a twentieth of the checks of right
answers say "different", as checks do where a model says the same otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from gateway.cache.calibrate import tallies
from gateway.cache.certificate import Tally
from gateway.cache.learner import Learner, Stream
from gateway.cache.logged import Logged, LoggedLessons
from gateway.cache.replay import entries, judge_of, read_stream, replay
from gateway.cache.semantic import ELSE, Thresholds
from gateway.cache.verifier import Model, Verifier
from gateway.cli.outcomes import bars, reader
from gateway.cli.output import print_table, settings_or_fail
from gateway.ledger.cache_evidence import CheckedPair

GRID = (0.7, 0.75, 0.8, 0.84, 0.86, 0.88, 0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98)
# Wrong hits as a share, of requests or of hits.
GOALS = ((0.01, True), (0.005, True), (0.05, False), (0.03, False))
NOISE = 0.05
Mask = npt.NDArray[np.bool_]


def part_of(stream: Stream, mask: Mask) -> Stream:
    """Some rows of a stream, in their order."""
    places = np.flatnonzero(mask)
    return Stream([stream.rows[place] for place in places.tolist()], stream.vectors[places])


def served(model: Model, part: Stream, threshold: float) -> Iterator[tuple[int, int]]:
    """Rows' places in a part that a model serves at a threshold, and of which row's answer."""
    verifier = Verifier(model)
    place_of = {row.id: place for place, row in enumerate(part.rows)}
    asked = entries(part.rows, list(part.vectors), verifier.parse)
    for one in replay(part.rows, asked, judge_of(verifier), Thresholds({ELSE: threshold})):
        if one.of is not None:
            yield place_of[one.id], place_of[one.of]


def log_of(model: Model, part: Stream, threshold: float) -> Logged:
    """What checks of all that is served would have logged."""
    found = list(served(model, part, threshold))
    rows = part.rows
    pairs = [
        CheckedPair(rows[a].query, rows[b].query, rows[a].answer_id == rows[b].answer_id, rows[a].category)
        for a, b in found
    ]
    ours, theirs = np.array(found, dtype=np.intp).reshape(-1, 2).T
    return Logged(pairs, part.vectors[ours], part.vectors[theirs])


def noisy(log: Logged, seed: int) -> Logged:
    """A log whose checks are wrong now and then."""
    flips = np.random.default_rng(seed).random(len(log.pairs)) < NOISE
    told = zip(log.pairs, flips.tolist(), strict=True)
    return replace(log, pairs=[replace(pair, same=pair.same and not flip) for pair, flip in told])


def curve(model: Model, part: Stream) -> list[Tally]:
    """What a model does on a part, by threshold."""
    verifier = Verifier(model)
    asked = entries(part.rows, list(part.vectors), verifier.parse)
    found = []
    for threshold in GRID:
        decided = replay(part.rows, asked, judge_of(verifier), Thresholds({ELSE: threshold}))
        found.append(sum(tallies(part.rows, decided).values(), start=Tally()))
    return found


def best(told: Sequence[Tally], share: float, *, of_requests: bool) -> float:
    """The most right hits, % of requests, at a threshold whose wrong ones are at most this share."""
    fits = [one for one in told if one.wrong <= share * (one.requests if of_requests else one.hits)]
    return max((100 * (one.hits - one.wrong) / one.requests for one in fits), default=0.0)


def main(
    stream: Annotated[Path, typer.Option(help="JSON Lines with id, query, category and answer_id.")],
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    threshold: Annotated[float, typer.Option(help="At which the log was served.")] = 0.9,
) -> None:
    """Print, for each way to learn, hits at the log's threshold, and right hits at four bounds of wrong ones."""
    settings = settings_or_fail()
    rows = read_stream(stream)
    table: list[tuple[object, ...]] = []
    with bars() as watch:
        read = reader(settings, watch)
        whole = Stream(rows, read.embed([row.query for row in rows]))
        learner = Learner((whole,), read.embedder, 0)
        names, groups = np.unique(learner.groups, return_inverse=True)
        for seed in range(rounds):
            watch("rounds", seed / rounds, "")
            draw = np.random.default_rng(seed).random(len(names))[groups]
            teaches, serves, judges = draw < 0.4, (draw >= 0.4) & (draw < 0.7), draw >= 0.7
            first = learner.model(teaches)
            log = log_of(first, part_of(whole, serves), threshold)
            clean = LoggedLessons(log, learner, (whole,))
            every = np.ones(len(rows), dtype=np.bool_)
            wrong = sum(not pair.same for pair in log.pairs)
            print(f"round {seed}: {len(log.pairs)} logged, {wrong} different")
            ways = {
                "the stream's part": first,
                "and the log": learner.model(teaches, clean.of(every)),
                "and the log, noise": learner.model(
                    teaches, LoggedLessons(noisy(log, seed), learner, (whole,)).of(every)
                ),
                "the log alone": learner.model(np.zeros(len(rows), dtype=np.bool_), clean.of(every)),
                "and all pairs of the log's rows": learner.model(teaches | serves),
            }
            judged_on = part_of(whole, judges)
            for name, model in ways.items():
                told = curve(model, judged_on)
                at = told[GRID.index(threshold)]
                figures = [f"{best(told, share, of_requests=of):.2f}" for share, of in GOALS]
                same = f"{100 * at.hits / at.requests:.1f} / {100 * at.wrong / max(1, at.hits):.1f}"
                table.append((seed, name, same, *figures))
    goals = [f"<= {100 * share:g} % of {'requests' if of else 'hits'}" for share, of in GOALS]
    print_table(("round", "taught by", f"hits % / wrong % at {threshold:g}", *goals), table)


if __name__ == "__main__":
    typer.run(main)
