"""Paced spending against the optimum known afterwards, on streams made of real outcomes.

    python -m benchmarks.pacing DATA/zeroeval [--calls 2000] [--seeds 2]

Each stream is served under a day's budget of a fifth and of a half of what it would cost without one, on a first day
and on a second one like it. A call that the budget does not cover goes to the next model that it does, or is refused.
Columns: gap to the optimum without pacing, then for each day: gap, share spent, share refused, score short of it.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.calibration import out_of_fold
from local_runtime.embedders.find import load_embedder
from routers.pacing import Pacer
from routers.training.choices import card_cost, true_cost
from routers.training.dataset import Dataset, Doubles, Indices
from routers.training.embedding_cache import cached
from routers.training.read import read_folder

DAY = 86_400.0
LOOK_S = 60.0
STREAMS = ("steady", "bursts", "day and night", "early rush", "late rush", "cheap first", "dear first", "gain last")
_NANO = 1e9
_MOST = 1e4


@dataclass(frozen=True, slots=True, eq=False)
class Calls:
    """Forecast quality and cost (USD), true score and cost of each call [T, M], and when they come."""

    quality: Doubles
    price: Doubles
    score: Doubles
    cost: Doubles
    times: Doubles
    weight: float

    def fixed(self, multiplier: float) -> tuple[float, float, float]:
        """Objective, spending and mean score under a multiplier that does not change."""
        rows = np.arange(len(self.times))
        places = (self.quality - self.weight * multiplier * self.price).argmax(axis=1)
        worth = self.quality[rows, places] - self.weight * self.price[rows, places]
        return float(worth.sum()), float(self.cost[rows, places].sum()), float(self.score[rows, places].mean())

    def best(self, budget: float) -> tuple[float, float]:
        """Objective and mean score of the least multiplier that keeps the budget: the linear programme's optimum."""
        low, high = 1.0, _MOST
        if self.fixed(low)[1] <= budget:
            return self.fixed(low)[0], self.fixed(low)[2]
        for _ in range(50):
            middle = float(np.sqrt(low * high))
            low, high = (middle, high) if self.fixed(middle)[1] > budget else (low, middle)
        worth, _, score = self.fixed(high)
        return worth, score

    def served(self, budget: float, pacer: Pacer, day: int = 0) -> tuple[float, float, float, float]:
        """Objective, share of the budget spent, share of calls refused, mean score."""
        spent = worth = score = refused = 0.0
        look, start = -1.0, day * DAY
        for row, now in enumerate(self.times):
            if now >= look:
                pacer.look(start + now, start, start + DAY, int(spent * _NANO))
                look = now + LOOK_S
            value = self.quality[row] - self.weight * pacer.multiplier * self.price[row]
            value = np.where(spent + self.cost[row] <= budget, value, -np.inf)
            place = int(value.argmax())
            if not np.isfinite(value[place]):
                refused += 1
                pacer.refuse()
                continue
            spent += self.cost[row, place]
            worth += self.quality[row, place] - self.weight * self.price[row, place]
            score += self.score[row, place]
            pacer.spend(int(self.price[row, place] * _NANO))
        return worth, spent / budget, refused / len(self.times), score / len(self.times)


def stream(data: Dataset, quality: Doubles, price: Doubles, kind: str, calls: int, seed: int) -> Calls:
    """Calls drawn from a set's queries, in the order and at the times of a kind."""
    rng = np.random.default_rng(seed)
    rows, times = rng.integers(0, len(data), calls), np.sort(rng.random(calls)) * DAY
    if kind == "bursts":
        near = rng.choice(rng.random(6), calls) * DAY + rng.normal(0, 600, calls)
        times = np.sort(np.where(rng.random(calls) < 0.7, near, times) % DAY)
    elif kind == "day and night":
        times = np.sort(np.arccos(1 - 2 * rng.random(calls)) / np.pi) * DAY
    elif kind in ("early rush", "late rush"):
        early = np.where(rng.random(calls) < 0.75, 0.15 * rng.random(calls), 0.15 + 0.85 * rng.random(calls))
        times = np.sort(early if kind == "early rush" else 1 - early) * DAY
    rows = _sorted(rows, quality, price, kind)
    scale = 0.2 / float(price.mean(axis=0).max())
    return Calls(quality[rows], price[rows], data.score[rows].astype(np.float64), true_cost(data)[rows], times, scale)


def _sorted(rows: Indices, quality: Doubles, price: Doubles, kind: str) -> Indices:
    if kind in ("cheap first", "dear first"):
        return rows[np.argsort(price.mean(axis=1)[rows] * (1 if kind == "cheap first" else -1))]
    if kind == "gain last":
        return rows[np.argsort((quality.max(axis=1) - quality[:, price.mean(axis=0).argmin()])[rows])]
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--embedder", default="minilm_onnx")
    parser.add_argument("--models", type=Path, default=Path("models"), help="where the embedder's weights are")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "fingerpost-embeddings")
    given = parser.parse_args()
    embedder = load_embedder(given.embedder, given.models, 1)
    data = read_folder(given.folder, cached(lambda texts: embedder.embed(list(texts)), embedder.id, given.cache), "")
    data = data.rows(np.flatnonzero(data.observed.all(axis=1)))
    quality, written = out_of_fold("ridge", data)
    price = card_cost(data.models, np.broadcast_to(data.inputs.tokens[:, None], written.shape), written)
    for kind in STREAMS:
        found = []
        for seed in range(given.seeds):
            calls = stream(data, quality.astype(np.float64), price, kind, given.calls, seed)
            for share in (0.2, 0.5):
                budget = share * calls.fixed(1.0)[1]
                pacer = Pacer(int(budget * _NANO), 1.0, _MOST)
                best, score = calls.best(budget)
                unpaced = calls.served(budget, Pacer(int(budget * _NANO), 1.0, 1.0))
                days = [calls.served(budget, pacer, day) for day in range(2)]
                found.append(
                    [1 - unpaced[0] / best, *(f for d in days for f in (1 - d[0] / best, *d[1:3], score - d[3]))]
                )
        print(kind, np.round(np.mean(found, axis=0), 4), flush=True)


if __name__ == "__main__":
    main()
