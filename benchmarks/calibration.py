"""Risk control on real outcomes: how often the tolerated loss is passed over repeats, and what is saved.

    python -m benchmarks.calibration DATA/zeroeval DATA/bfcl [--kind knn] [--repeats 200]

`DATA/...` are folders of outcomes as docs/data.md describes them. How far forecasts mean what they say is measured by
`fingerpost evaluate`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import cast

import numpy as np

from local_runtime.embedders.find import load_embedder
from routers.find import router_class
from routers.inputs import Floats
from routers.learned import LearnedRouter
from routers.training.choices import card_cost, true_cost
from routers.training.dataset import Dataset
from routers.training.embedding_cache import cached
from routers.training.read import read_folder
from routers.training.risk import betting_bound, controlled, exact_bound, normal_bound, thrifty_path
from routers.training.splits import folds_by_group

_FOLDS = 5
_MOST_ROWS = 1500
_DELTA = 0.1


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--kind", default="ridge")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--embedder", default="minilm_onnx")
    parser.add_argument("--models", type=Path, default=Path("models"), help="where the embedder's weights are")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "fingerpost-embeddings")
    given = parser.parse_args()
    embedder = load_embedder(given.embedder, given.models, 1)
    embed = cached(lambda texts: embedder.embed(list(texts)), embedder.id, given.cache)
    for folder in given.folders:
        data = read_folder(folder, embed, embedder.id)
        data = data.rows(np.flatnonzero(data.observed.all(axis=1)))
        print(f"{data.name}:")
        for line, (broken, saved) in controls(data, given.kind, given.repeats).items():
            print(f"   {line}: violated {broken:.3f}, saved {saved:.3f}", flush=True)


def out_of_fold(kind: str, data: Dataset) -> tuple[Floats, Floats]:
    """Forecast quality and mean tokens of all pairs [Q, M], by routers that have not seen the pair's question."""
    router = cast(type[LearnedRouter], router_class(kind))
    quality, tokens = np.empty((2, *data.score.shape), dtype=np.float32)
    for rest, fold in folds_by_group(data, _FOLDS, 0):
        told = router.fit(data.rows(rest), seed=0).predict(data.inputs.rows(fold), data.models)
        quality[fold], tokens[fold] = told.quality, told.tokens_mean
    return quality, tokens


def controls(data: Dataset, kind: str, repeats: int) -> dict[str, tuple[float, float]]:
    """Share of repeats whose other half lost more than tolerated, and cost saved, by tolerance, path and bound."""
    quality, tokens = out_of_fold(kind, data)
    score, cost = data.score.astype(np.float64), true_cost(data)
    given = np.broadcast_to(data.inputs.tokens[:, None], tokens.shape)
    price, best = card_cost(data.models, given, tokens), int(score.mean(axis=0).argmax())
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
