"""A bandit on real outcomes as they would have come: one answer a question, judged late or never, while models change.

Run: python -m benchmarks.bandit --data FOLDER [--data FOLDER ...] [--prior ridge] [--seeds 5] [--json out.json]
Each FOLDER has queries, outcomes of every model, and models.json (see docs/data.md).
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gateway.cli.outcomes import reader
from gateway.settings import Settings
from policies.catalogue import Endpoint
from policies.schema import Learning, Objective, Policy
from routers.bandit_state import Tally, added, lesson
from routers.base import Router
from routers.choose import choose
from routers.decision import Candidate, Features, Query
from routers.features import has_code
from routers.find import router_class
from routers.kinds.bandit import Bandit, Beliefs
from routers.learned import LearnedRouter
from routers.training.dataset import Dataset, Doubles
from routers.training.splits import by_group

SCENARIOS = ("steady", "drift", "new model")
ADOPT_EVERY = 10


@dataclass(frozen=True, slots=True)
class Terms:
    """How feedback comes and fades: steps until it is there, the share that never is, the half-life in steps."""

    delay: int = 20
    missing: float = 0.3
    half_life: float = 1000.0
    exploration: float = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Questions in the order in which they come; `score` [T, M] as it is then, `open_from` [M] when a model joins.

    A stream's second half begins at `turn`.
    """

    dataset: Dataset
    score: Doubles
    open_from: Sequence[int]
    turn: int


def streams(dataset: Dataset, scenario: str, seed: int, objective: Objective) -> tuple[Dataset, Stream]:
    """What is known beforehand (30 % of the questions), and what comes."""
    train, _, rest = by_group(dataset, seed, (0.3, 0.0, 0.7))
    order = np.random.default_rng(seed).permutation(rest)
    known, coming = dataset.rows(train), dataset.rows(order)
    score = coming.score.astype(np.float64)
    turn, start = len(coming) // 2, [0] * len(dataset.models)
    ranked = np.argsort(-_worth(objective, known, known.score.astype(np.float64)).mean(axis=0))
    if scenario == "drift":
        # The best three trade their quality with three of the middle; prices and lengths stay.
        middle = len(ranked) // 2
        for one, other in zip(ranked[:3], ranked[middle : middle + 3], strict=True):
            score[turn:, [one, other]] = score[turn:, [other, one]]
    if scenario == "new model":
        best = int(ranked[0])
        start[best] = len(coming) // 4
        known = known.columns([column for column in range(len(start)) if column != best])
    return known, Stream(coming, score, start, turn)


def _worth(objective: Objective, dataset: Dataset, score: Doubles) -> Doubles:
    return objective.quality * score - objective.cost * dataset.cost_usd / objective.cost_scale_usd


def walk(stream: Stream, router: Router, policy: Policy, terms: Terms, seed: int) -> dict[str, Any]:
    """Decide every question, learn where the router does; the worth of what was chosen, by step."""
    data, rng = stream.dataset, random.Random(seed)
    worth = _worth(policy.objective, data, stream.score)
    column = {card.id: place for place, card in enumerate(data.models)}
    pool = [Candidate(Endpoint(id=card.id, model=card.id, provider="local"), card, 500.0) for card in data.models]
    learner = router if isinstance(router, Bandit) else None
    waiting: list[tuple[int, str, Tally]] = []
    state: dict[str, Tally] = {}
    got, extra, explored = np.zeros(len(data)), 0, 0
    for step in range(len(data)):
        open_now = [one for one, start in zip(pool, stream.open_from, strict=True) if step >= start]
        asked = _query(data, step)
        decision = choose(policy, router.kind, asked, open_now, router.forecast(asked, open_now), "", rng)
        chosen = decision.chosen.candidate.card.id
        got[step] = worth[step, column[chosen]]
        extra += decision.extra_nanousd
        explored += decision.chosen.score < max(ranked.score for ranked in decision.ranking)
        if learner is None:
            continue
        if rng.random() >= terms.missing:
            before = decision.chosen.forecast.prior_quality or 0.0
            context = learner.contexts(data.inputs.embeddings[step : step + 1])[0]
            late = step + 1 + int(rng.random() * 2 * terms.delay)
            waiting.append((late, chosen, lesson(context, stream.score[step, column[chosen]] - before, float(step))))
        if step % ADOPT_EVERY == 0:
            for _, model, heard in (one for one in waiting if one[0] <= step):
                state = added(state, {model: heard}, learner.beliefs.half_life_s)
            waiting = [one for one in waiting if one[0] > step]
            learner.adopt(state, float(step))
    return {"got": got, "extra_usd": extra / 1e9, "explored": explored / len(data)}


def _query(data: Dataset, row: int) -> Query:
    text = data.texts[row]
    features = Features(tokens=int(data.inputs.tokens[row]), chars=len(text), code=has_code(text))
    return Query(text, features, embedding=data.inputs.embeddings[row])


def contestants(known: Dataset, kind: str, policy: Policy, terms: Terms) -> Iterator[tuple[str, Router, Policy]]:
    """Every router with the policy that it plays by."""
    prior, mean = _fitted(kind, known), _fitted("mean", known)
    beliefs = Beliefs(half_life_s=terms.half_life)
    exploring = policy.model_copy(update={"exploration": terms.exploration})
    yield "mean, fixed", mean, policy
    yield f"{kind}, fixed", prior, policy
    yield f"{kind}, {terms.exploration:.0%} at random", prior, exploring
    for label, upon, directions, by in (
        ("bandit, never trying", prior, 8, policy),
        ("bandit", prior, 8, exploring),
        ("bandit on levels alone", prior, 0, exploring),
        ("bandit from means", mean, 8, exploring),
    ):
        yield label, Bandit.upon(upon, known, directions, beliefs), by


def _fitted(kind: str, known: Dataset) -> LearnedRouter:
    found = router_class(kind)
    if not issubclass(found, LearnedRouter):
        raise ValueError(f"kind '{kind}' learns nothing from data")
    return found.fit(known)


def references(stream: Stream, objective: Objective) -> dict[str, Doubles]:
    """The best single model in hindsight, of the whole stream and of each half; of those that were there."""
    worth = _worth(objective, stream.dataset, stream.score)
    there = np.arange(len(worth))[:, None] >= np.array(stream.open_from)[None]
    always = np.where(np.array(stream.open_from) == 0, worth.mean(axis=0), -np.inf)
    shown = np.where(there, worth, -np.inf)
    cuts = sorted({0, stream.turn, *stream.open_from, len(worth)})
    parts = [worth[a:b, int(shown[a:b].mean(axis=0).argmax())] for a, b in pairwise(cuts)]
    return {"best single": worth[:, int(always.argmax())], "best single of each part": np.concatenate(parts)}


def run(dataset: Dataset, kind: str, seeds: int, terms: Terms, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Every scenario and trade-off: mean worth a question of everybody, over seeds."""
    dataset = dataset.rows(np.flatnonzero(np.isfinite(dataset.score + dataset.cost_usd).all(axis=1)))
    dearest = float(np.nanmax(dataset.cost_usd))
    trade_offs = {
        "quality": Objective(),
        "balance": Objective(quality=0.5, cost=0.5, cost_scale_usd=dearest),
    }
    for scenario in SCENARIOS:
        for name, objective in trade_offs.items():
            policy = Policy(schema=1, name="stream", objective=objective, learning=Learning(within=0.05))
            began, rows = time.perf_counter(), dict[str, list[dict[str, Any]]]()
            for seed in range(seeds):
                known, stream = streams(dataset, scenario, seed, objective)
                for label, worth in references(stream, objective).items():
                    rows.setdefault(label, []).append({"got": worth, "extra_usd": 0.0, "explored": 0.0})
                for label, router, by in contestants(known, kind, policy, terms):
                    rows.setdefault(label, []).append(walk(stream, router, by, terms, seed))
            found = {label: _summary(mine) for label, mine in rows.items()}
            say(f"{dataset.name} | {scenario} | {name} ({time.perf_counter() - began:.0f} s)")
            for label, figures in found.items():
                say(f"  {label:28s} " + " ".join(f"{key}={value:.4f}" for key, value in figures.items()))
            yield {"data": dataset.name, "scenario": scenario, "trade_off": name, "found": found}


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean worth a question: whole stream, its first half, its last quarter; the error is of seeds."""
    whole = [float(row["got"].mean()) for row in rows]
    return {
        "mean": float(np.mean(whole)),
        "error": float(np.std(whole, ddof=1) / np.sqrt(len(whole))) if len(whole) > 1 else 0.0,
        "first_half": float(np.mean([row["got"][: len(row["got"]) // 2].mean() for row in rows])),
        "last_quarter": float(np.mean([row["got"][-(len(row["got"]) // 4) :].mean() for row in rows])),
        "explored": float(np.mean([row["explored"] for row in rows])),
        "extra_usd": float(np.mean([row["extra_usd"] for row in rows])),
    }


def main() -> None:
    """Print, and write as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--prior", default="ridge")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--half-life", type=float, default=Terms().half_life)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    read, terms = reader(Settings(), lambda *_: None), replace(Terms(), half_life=given.half_life)
    found = [
        row
        for folder in given.data
        for row in run(read.read(folder), given.prior, given.seeds, terms, lambda line: print(line, flush=True))
    ]
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
