"""Calibration and risk control on real outcomes: error and coverage on held-out queries, violations over repeats.

    python -m benchmarks.calibration DATA/zeroeval DATA/bfcl [--kind knn] [--seeds 5] [--repeats 200]

`DATA/...` are folders of outcomes as docs/data.md describes them. Without --kind the forecasts are those of a plain
ridge regression (penalty 3 on centred embeddings), which does not calibrate itself in any way.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import cast

import numpy as np

from local_runtime.embedders.find import load_embedder
from routers.find import router_class
from routers.inputs import Inputs
from routers.learned import LearnedRouter
from routers.predictions import Predictions
from routers.training.calibrate import fit_quality_map, fit_token_bounds
from routers.training.choices import card_cost, true_cost
from routers.training.crossfit import Fit, out_of_fold
from routers.training.dataset import Dataset, Doubles
from routers.training.embedding_cache import cached
from routers.training.metrics import brier, expected_calibration_error, interval_coverage
from routers.training.read import read_folder
from routers.training.risk import betting_bound, controlled, exact_bound, normal_bound, thrifty_path
from routers.training.splits import by_group

_PENALTY = 3.0
_MOST_ROWS = 1500
_DELTA = 0.1
_COLUMNS = "ece, ece after, brier, brier after, interval coverage, half width, token coverage, worst model's, median's"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--kind")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--embedder", default="minilm_onnx")
    parser.add_argument("--models", type=Path, default=Path("models"), help="where the embedder's weights are")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "fingerpost-embeddings")
    given = parser.parse_args()
    embedder = load_embedder(given.embedder, given.models, 1)
    embed = cached(lambda texts: embedder.embed(list(texts)), embedder.id, given.cache)
    fit = of_kind(given.kind) if given.kind else plain_ridge
    for folder in given.folders:
        data = read_folder(folder, embed, embedder.id)
        data = data.rows(np.flatnonzero(data.observed.all(axis=1)))
        print(f"{data.name}: {_COLUMNS}")
        print("  ", np.round(np.mean([calibrated(data, fit, seed) for seed in range(given.seeds)], axis=0), 4))
        for line, (broken, saved) in controls(data, fit, given.repeats).items():
            print(f"   {line}: violated {broken:.3f}, saved {saved:.3f}", flush=True)


def of_kind(kind: str) -> Fit:
    """Fits a kind of router, with its defaults."""
    return lambda data: cast(type[LearnedRouter], router_class(kind)).fit(data, seed=0)


class _Ridge:
    """Scores and log tokens of all models, regressed on centred embeddings."""

    def __init__(self, data: Dataset) -> None:
        self.usual = data.score.mean(axis=0)
        written = np.log(np.maximum(np.nan_to_num(data.output_tokens, nan=150.0), 1))
        self.length, self.centre = written.mean(axis=0), data.inputs.embeddings.mean(axis=0)
        x = data.inputs.embeddings - self.centre
        targets = np.hstack([data.score - self.usual, written - self.length])
        self.weights = np.linalg.solve(x.T @ x + _PENALTY * np.eye(x.shape[1]), x.T @ targets)

    def predict(self, inputs: Inputs, cards: object) -> Predictions:
        """Of all models, whichever cards are asked for."""
        told = (inputs.embeddings - self.centre) @ self.weights
        quality = np.clip(self.usual + told[:, : len(self.usual)], 0, 1).astype(np.float32)
        tokens = np.exp(self.length + told[:, len(self.usual) :]).astype(np.float32)
        trust = np.ones(len(quality), dtype=np.float32)
        unknown = np.full_like(quality, np.nan)
        return Predictions(quality, quality, quality, tokens, tokens, unknown, self.usual, np.exp(self.length), trust)


def plain_ridge(data: Dataset) -> LearnedRouter:
    """No router: it has only what cross-fitting asks of one."""
    return cast(LearnedRouter, _Ridge(data))


def calibrated(data: Dataset, fit: Fit, seed: int) -> Doubles:
    """One split's figures, in the order of `_COLUMNS`: fitted out of fold on seven tenths, measured on two."""
    train, _, test = by_group(data, seed)
    known, fresh, ids = data.rows(train), data.rows(test), [card.id for card in data.models]
    raw, told = fit(known).predict(fresh.inputs, data.models), out_of_fold(fit, known)
    quality, low, high = fit_quality_map(told.quality, known.score, ids).bounds(raw.quality, ids)
    bounds = fit_token_bounds(told.tokens, known.output_tokens, ids)
    within = fresh.output_tokens <= bounds.quantile(raw.tokens, ids)
    middle = fresh.output_tokens <= bounds.quantile(raw.tokens, ids, 0.5)
    figures = (
        expected_calibration_error(raw.quality, fresh.score),
        expected_calibration_error(quality, fresh.score),
        brier(raw.quality, fresh.score),
        brier(quality, fresh.score),
        interval_coverage(quality, low, high, fresh.score),
        float((high - low).mean() / 2),
        float(within.mean()),
        float(np.abs(within.mean(axis=0) - 0.9).max()),
        float(middle.mean()),
    )
    return np.array(figures)


def controls(data: Dataset, fit: Fit, repeats: int) -> dict[str, tuple[float, float]]:
    """Share of repeats whose other half lost more than tolerated, and cost saved, by tolerance, path and bound."""
    ids, told = [card.id for card in data.models], out_of_fold(fit, data)
    quality = fit_quality_map(told.quality, data.score, ids).apply(told.quality, ids)
    score, cost = data.score.astype(np.float64), true_cost(data)
    given = np.broadcast_to(data.inputs.tokens[:, None], told.tokens.shape)
    price, best = card_cost(data.models, given, told.tokens), int(score.mean(axis=0).argmax())
    weights = np.concatenate([[0.0], np.logspace(-2, 3, 60)]) / price.mean(axis=0).max()
    paths = {
        "ladder": np.array([(quality - weight * price).argmax(axis=1) for weight in weights]),
        "path": thrifty_path(quality, price, best),
    }
    rows = np.arange(len(data))
    found: dict[str, list[tuple[float, float]]] = {}
    for repeat in range(repeats):
        order = np.random.default_rng(repeat).permutation(len(data))
        half = min(len(data) // 2, _MOST_ROWS)
        known, other = order[:half], order[half : 2 * half]
        for tolerated in (0.01, 0.02, 0.05):
            for name, places in paths.items():
                loss, spent = score[rows, best] - score[rows, places], cost[rows, places]
                cases = {
                    "normal": controlled(loss[:, known], tolerated, _DELTA, normal_bound),
                    "exact, ahead": controlled(loss[:, known], tolerated, _DELTA, exact_bound, half),
                    "betting, ahead": controlled(loss[:, known], tolerated, _DELTA, betting_bound, half),
                }
                for bound, place in cases.items():
                    saved = 1 - spent[place, other].mean() / cost[other, best].mean() if place >= 0 else 0.0
                    broken = place >= 0 and loss[place, other].mean() > tolerated
                    found.setdefault(f"{tolerated:.0%} {name}, {bound}", []).append((float(broken), float(saved)))
    return {
        line: (float(np.mean([b for b, _ in runs])), float(np.mean([s for _, s in runs])))
        for line, runs in found.items()
    }


if __name__ == "__main__":
    main()
