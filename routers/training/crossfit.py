"""Forecasts by routers that have not seen what they forecast: rows, models or whole clusters of queries left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields

import numpy as np

from routers.learned import LearnedRouter
from routers.predictions import Predictions
from routers.training.dataset import Dataset, Indices
from routers.training.novelty import CLUSTERS, leave_clusters_out
from routers.training.splits import folds_by_group

# A router fitted on some of the data.
Fit = Callable[[Dataset], LearnedRouter]
FOLDS = 5
PARTS = 4

_OF_MODELS = ("usual", "usual_tokens", "mean_ratio")
_OF_QUERIES = ("trust",)


def out_of_fold(fit: Fit, data: Dataset, folds: int = FOLDS, seed: int = 0) -> Predictions:
    """Forecasts of all pairs, each by a router that has not seen the pair's question.

    `usual`, `usual_tokens` and `mean_ratio` are those of the fold that was fitted last.
    """
    return _by_rows(fit, data, folds_by_group(data, folds, seed))


def out_of_cluster(fit: Fit, data: Dataset, clusters: int = CLUSTERS, seed: int = 0) -> Predictions:
    """Forecasts of all pairs, each by a router that has seen no query of the pair's cluster; NaN where that is all."""
    return _by_rows(fit, data, leave_clusters_out(data.inputs.embeddings, data.groups, clusters, seed))


def out_of_models(fit: Fit, data: Dataset, parts: int = PARTS, folds: int = 2, seed: int = 0) -> Predictions:
    """Forecasts of all pairs, each by a router that has seen neither the pair's model nor its question.

    Models are left out in `parts`, together with each of `folds` of the rows. `ValueError` for fewer than three models.
    """
    total = len(data.models)
    if total < 3:
        raise ValueError(f"of {total} models none can be left out: bring three or more")
    part = np.random.default_rng(seed).permutation(total) % min(parts, total // 2)
    made = _blank(data)
    for one in np.unique(part):
        kept, held = np.flatnonzero(part != one).tolist(), np.flatnonzero(part == one)
        cards = [data.models[place] for place in held]
        for train, test in folds_by_group(data, folds, seed):
            told = fit(data.rows(train).columns(kept)).predict(data.rows(test).inputs, cards)
            _put(made, told, test, held)
    return made


def _by_rows(fit: Fit, data: Dataset, splits: Iterable[tuple[Indices, Indices]]) -> Predictions:
    made, columns = _blank(data), np.arange(len(data.models))
    for train, test in splits:
        told = fit(data.rows(train)).predict(data.rows(test).inputs, data.models)
        _put(made, told, test, columns)
    return made


def _blank(data: Dataset) -> Predictions:
    shapes = {name: (len(data.models),) for name in _OF_MODELS} | {name: (len(data),) for name in _OF_QUERIES}
    whole = (len(data), len(data.models))
    return Predictions(
        **{one.name: np.full(shapes.get(one.name, whole), np.nan, dtype=np.float32) for one in fields(Predictions)}
    )


def _put(made: Predictions, told: Predictions, rows: Indices, columns: Indices) -> None:
    for one in fields(Predictions):
        target, source = getattr(made, one.name), getattr(told, one.name)
        if one.name in _OF_MODELS:
            target[columns] = source
        elif one.name in _OF_QUERIES:
            target[rows] = source
        else:
            target[np.ix_(rows, columns)] = source
