"""Off-policy estimates against truth: logs are simulated on data where every model's reward is known, then judged.

Run: python -m benchmarks.offpolicy --data FOLDER [--data FOLDER ...] [--repeats 200] [--rows 1000] [--json out.json]
Each FOLDER has queries, outcomes of every model, and models.json (see docs/data.md).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gateway.cli.outcomes import reader
from gateway.settings import Settings
from routers.find import router_class
from routers.learned import LearnedRouter
from routers.training.dataset import Dataset, Doubles
from routers.training.logs import draw
from routers.training.offpolicy import compare, evaluate
from routers.training.splits import by_group
from routers.training.support import Needs, NoSupport

METHODS = ("ips", "snips", "clipped_ips", "direct", "dr", "clipped_dr")
DELTA = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Queries that logs are drawn from: contexts, every model's reward (BAL scaled to 0..1, or the score), policies."""

    name: str
    models: tuple[str, ...]
    contexts: Doubles
    reward: Doubles
    logging: dict[str, Doubles]
    targets: dict[str, Doubles]


def pool_of(dataset: Dataset, balanced: bool) -> Pool:
    """Routers are fitted on 30 % of the questions; logs come from the others, where every model's outcome is known."""
    dataset = dataset.rows(np.flatnonzero(np.isfinite(dataset.score + dataset.cost_usd).all(axis=1)))
    train, _, rest = by_group(dataset, 0, (0.3, 0.0, 0.7))
    known, pool = dataset.rows(train), dataset.rows(rest)
    cost = dataset.cost_usd
    share = np.zeros_like(cost) if not balanced else (cost - np.nanmin(cost)) / (np.nanmax(cost) - np.nanmin(cost))
    reward = np.asarray(dataset.score - share, dtype=np.float64) / (2.0 if balanced else 1.0)
    reward = reward + (0.5 if balanced else 0.0)
    usual = np.tile(np.nanmean(reward[train], axis=0), (len(pool), 1))
    told = _foretold("ridge", known, pool) - np.nanmean(share[train], axis=0) * float(balanced)
    cheap = np.nanmean(cost[train], axis=0)
    cheapest_good = np.where(usual[0] >= np.median(usual[0]), -cheap, -np.inf)
    count = len(dataset.models)
    greedy = _greedy(usual)
    return Pool(
        f"{dataset.name} {'balance' if balanced else 'score'}",
        tuple(card.id for card in dataset.models),
        _main_directions(pool.inputs.embeddings.astype(np.float64)),
        reward[rest],
        {
            "greedy on means, 20 % explored": 0.8 * greedy + 0.2 / count,
            "softmax of ridge": _softmax(told / 0.1) * 0.98 + 0.02 / count,
        },
        {
            "ridge, best a query": _greedy(told),
            "cheapest of the better half": _greedy(np.tile(cheapest_good, (len(pool), 1))),
            "softmax of means": _softmax(usual / 0.05),
        },
    )


def _foretold(kind: str, known: Dataset, pool: Dataset) -> Doubles:
    found = router_class(kind)
    if not issubclass(found, LearnedRouter):
        raise ValueError(f"kind '{kind}' learns nothing from data")
    return found.fit(known).predict(pool.inputs, pool.models).quality.astype(np.float64)


def _main_directions(vectors: Doubles) -> Doubles:
    """As many as any reward model looks at, so that no repeat has to find them in all dimensions."""
    axes = np.linalg.eigh(vectors.T @ vectors)[1][:, -48:]
    return np.asarray(vectors @ axes, dtype=np.float64)


def _greedy(values: Doubles) -> Doubles:
    return np.asarray(np.eye(values.shape[1])[values.argmax(axis=1)], dtype=np.float64)


def _softmax(values: Doubles) -> Doubles:
    raised = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), dtype=np.float64)


def trials(pool: Pool, logged: Doubles, target: Doubles, rows: int, repeats: int) -> Iterator[dict[str, Any]]:
    """One row for each repeat and method: its error, whether its interval held the truth, and the interval's width."""
    truth = float((target * pool.reward).sum(axis=1).mean())
    old = float((logged * pool.reward).sum(axis=1).mean())
    for seed in range(repeats):
        drawn = np.random.default_rng(10_000 + seed).integers(0, len(pool.contexts), rows)
        logs = draw(pool.models, pool.contexts[drawn].astype(np.float32), logged[drawn], pool.reward[drawn], None, seed)
        try:
            needs = Needs(effective_rows=20)
            found = evaluate(logs, target[drawn], delta=DELTA, resamples=400, seed=seed, needs=needs)
            apart = compare(logs, target[drawn], logged[drawn], delta=DELTA, resamples=400, seed=seed, needs=needs)
        except NoSupport:
            yield {"method": "refused"}
            continue
        for name in METHODS:
            one = getattr(found, name)
            yield _row(name, one.value - truth, one.low - truth, one.high - truth, found.support.effective_rows)
        for name in ("bernstein", "betting"):
            ends = getattr(found, name)
            yield _row(name, (ends.low + ends.high) / 2 - truth, ends.low - truth, ends.high - truth)
        gain, told = truth - old, apart.difference
        yield _row("difference", told.value - gain, told.low - gain, told.high - gain)
        for name, low in (("low_bernstein", apart.bernstein_low), ("low_betting", apart.low)):
            yield {"method": name, "error": 0.0, "held": low <= gain, "width": gain - low, "better": low > 0}


def _row(method: str, error: float, low: float, high: float, effective: float = 0.0) -> dict[str, Any]:
    return {"method": method, "error": error, "held": low <= 0 <= high, "width": high - low, "effective": effective}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each method: bias, its standard error, RMSE, coverage and mean width."""
    found: dict[str, dict[str, float]] = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        if method == "refused":
            found[method] = {"repeats": len(mine)}
            continue
        errors = np.array([row["error"] for row in mine])
        found[method] = {
            "bias": float(errors.mean()),
            "bias_error": float(errors.std() / np.sqrt(len(errors))),
            "rmse": float(np.sqrt((errors**2).mean())),
            "coverage": float(np.mean([row["held"] for row in mine])),
            "width": float(np.mean([row["width"] for row in mine])),
            "repeats": len(mine),
        }
        if method.startswith("low_"):
            found[method]["promoted"] = float(np.mean([row["better"] for row in mine]))
        if method == "ips":
            found[method]["effective_rows"] = float(np.mean([row["effective"] for row in mine]))
    return found


def run(dataset: Dataset, rows: int, repeats: int, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Every pairing of a logging policy with a target."""
    for balanced in (False, True):
        pool = pool_of(dataset, balanced)
        for by, logged in pool.logging.items():
            for of, target in pool.targets.items():
                began = time.perf_counter()
                found = summary(list(trials(pool, logged, target, rows, repeats)))
                truth = float((target * pool.reward).sum(axis=1).mean())
                old = float((logged * pool.reward).sum(axis=1).mean())
                say(f"{pool.name} | {by} | {of}: {truth:.4f} against {old:.4f} ({time.perf_counter() - began:.0f} s)")
                for method, figures in found.items():
                    say("  " + f"{method:12s} " + " ".join(f"{name}={value:.4f}" for name, value in figures.items()))
                yield {"pool": pool.name, "logged": by, "target": of, "truth": truth, "old": old, "methods": found}


def main() -> None:
    """Print, and write as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    read = reader(Settings(), lambda *_: None)
    found = [
        row
        for folder in given.data
        for row in run(read.read(folder), given.rows, given.repeats, lambda line: print(line, flush=True))
    ]
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
