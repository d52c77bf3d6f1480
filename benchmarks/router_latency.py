"""How much of one core a decision takes after the embedding: each learned kind, forecast + reason + choose, 50 models.

Run: python -m benchmarks.router_latency [KIND ...] [--artifact FOLDER]
Time is the deciding thread's own CPU time; garbage is collected as it is in a process that serves, and
matrices are multiplied by this one thread, whatever OMP_NUM_THREADS says.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from benchmarks.decision import PROMPT, candidates
from policies.schema import Policy
from routers.artifact import read_artifact
from routers.choose import choose
from routers.decision import Candidate, Features, Query
from routers.features import estimate_tokens
from routers.find import kinds, router_class
from routers.folded import FoldedRouter
from routers.learned import LearnedRouter
from routers.training.dataset import Dataset
from routers.training.simulator import make_world, simulate

CANDIDATES, DIMENSIONS, QUERIES = 50, 384, 8_000
DECISIONS, WARM_UP = 3_000, 200
# Where the size of what was learned decides the time, the largest that tuning may choose.
LARGEST: dict[str, dict[str, float]] = {"knn": {"k": 160, "sharpness": 8.0}, "cluster": {"clusters": 64, "nearest": 4}}
POLICY = Policy.model_validate(
    {
        "schema": 1,
        "name": "speed",
        "objective": {"quality": 1.0, "cost": 0.5, "latency": 0.1},
        "router": {"kind": "mean"},
    }
)


def fitted(kind: type[LearnedRouter], outcomes: Dataset) -> LearnedRouter:
    """A router of the kind; what would be tuned is given, since that takes longer and serves no faster."""
    if not issubclass(kind, FoldedRouter):
        return kind.fit(outcomes)
    first = {name: values[0] for name, values in kind.GRID.items()}
    return kind.fit(outcomes, settings=LARGEST.get(kind.kind, first))


def pool(outcomes: Dataset, strangers: int = 0) -> list[Candidate]:
    """Candidates of the models that were learned from, the last of them replaced by models that were not."""
    plain = candidates(CANDIDATES)
    known = [replace(one, card=card) for one, card in zip(plain, outcomes.models, strict=False)]
    return (known + plain[len(known) :])[: CANDIDATES - strangers] + plain[CANDIDATES - strangers :]


def queries(count: int, dimensions: int) -> list[Query]:
    """The same text with vectors that differ, so that no answer lies in a cache."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(count, dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    features = Features(tokens=estimate_tokens(PROMPT), chars=len(PROMPT))
    return [Query(PROMPT, features, "math", vector) for vector in vectors]


def microseconds(router: LearnedRouter, among: list[Candidate]) -> dict[str, float]:
    """Median and 99th percentile of whole decisions; the median of forecast and choose alone."""
    rng = random.Random(0)
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # as `gateway.lifecycle.run` does
    spent: dict[str, list[float]] = {"forecast": [], "choose": [], "whole": []}
    for query in queries(DECISIONS + WARM_UP, router.artifact.dimensions or DIMENSIONS):
        begun = time.thread_time()
        told = router.forecast(query, among)
        foretold = time.thread_time()
        choose(POLICY, router.kind, query, among, told, router.reason(query), rng)
        done = time.thread_time()
        for part, seconds in zip(spent, (foretold - begun, done - foretold, done - begun), strict=True):
            spent[part].append(seconds * 1e6)
    kept = {part: np.array(figures[WARM_UP:]) for part, figures in spent.items()}
    medians = {part: float(np.median(figures)) for part, figures in kept.items()}
    return {**medians, "p99": float(np.quantile(kept["whole"], 0.99))}


def main() -> None:
    """Print one line a kind: known models, and with five models known by their cards only."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", nargs="*", help="kinds to fit on planted outcomes; all that learn by default")
    parser.add_argument("--artifact", type=Path, help="measure this artifact instead")
    given = parser.parse_args()
    outcomes = simulate(make_world(models=CANDIDATES, dimensions=DIMENSIONS), QUERIES, seed=0).dataset
    if given.artifact:
        artifact = read_artifact(given.artifact)
        found = [router_class(artifact.kind)]
    else:
        found = [router_class(kind) for kind in given.kind or kinds()]
    for kind in found:
        if not issubclass(kind, LearnedRouter):
            continue
        router = kind.from_artifact(artifact) if given.artifact else fitted(kind, outcomes)
        for strangers in (0, 5):
            with threadpool_limits(1):
                us = microseconds(router, pool(outcomes, strangers))
            print(
                f"{kind.kind:20} {strangers} of {CANDIDATES} models unknown: forecast {us['forecast']:4.0f}"
                f" + reason and choose {us['choose']:4.0f}, together p50 {us['whole']:4.0f}, p99 {us['p99']:4.0f} us",
                flush=True,
            )


if __name__ == "__main__":
    main()
