"""One call that fits a whole `Calibration` for a kind of router, from data the router itself is fitted on."""

from __future__ import annotations

import numpy as np

from routers.calibration import Calibration
from routers.gate import Gate
from routers.predictions import Predictions
from routers.training.calibrate import fit_quality_map, fit_token_bounds
from routers.training.choices import mean_of
from routers.training.crossfit import Fit, out_of_cluster, out_of_fold, out_of_models
from routers.training.dataset import Dataset, Doubles
from routers.training.novelty import CLUSTERS, fit_gate, leave_clusters_out, left_out_similarity, tune_gate

_INTERVAL = 1.645
_NARROWEST, _WIDEST = 0.05, 0.5
_FEWEST_MODELS = 4


def fit_calibration(fit: Fit, data: Dataset, seed: int = 0, new_models: bool = True, gate: bool = True) -> Calibration:
    """Fits `fit` anew for folds (5 times), left-out clusters (8) and, with `new_models`, left-out models (8).

    `fit` takes a dataset and gives a router whose forecasts are not calibrated yet. Without `gate`, or where no query
    has an embedding, every query is trusted. `ValueError` where there is no outcome.
    """
    ids = [card.id for card in data.models]
    told = out_of_fold(fit, data, seed=seed)
    unseen = out_of_models(fit, data, seed=seed) if new_models and len(ids) >= _FEWEST_MODELS else None
    quality = fit_quality_map(told.quality, data.score, ids, None if unseen is None else unseen.quality)
    tokens = fit_token_bounds(told.tokens, data.output_tokens, ids, None if unseen is None else unseen.tokens)
    if not gate or not data.inputs.embeddings.any():
        return Calibration(quality, tokens)
    usual = _usual_elsewhere(data, seed)
    strange = _strangeness(data, usual, seed)
    return Calibration(quality, tokens, _gate(data, out_of_cluster(fit, data, seed=seed), usual, seed), strange)


def _usual_elsewhere(data: Dataset, seed: int) -> Doubles:
    """The mean score of each model on the queries of other clusters than the pair's [Q, M]."""
    usual = np.full(data.score.shape, np.nan)
    for kept, out in leave_clusters_out(data.inputs.embeddings, data.groups, CLUSTERS, seed):
        usual[out] = mean_of(data.score[kept].astype(np.float64))
    return usual


def _strangeness(data: Dataset, usual: Doubles, seed: int) -> float:
    """Half the 90 % interval of a model's mean score on a cluster of queries around its usual quality elsewhere."""
    clusters = leave_clusters_out(data.inputs.embeddings, data.groups, CLUSTERS, seed)
    off = np.concatenate([mean_of(data.score[out] - usual[out]) for _, out in clusters] or [np.array([np.nan])])
    off = off[np.isfinite(off)]
    return float(np.clip(_INTERVAL * np.sqrt((off**2).mean()), _NARROWEST, _WIDEST)) if len(off) else _WIDEST


def _gate(data: Dataset, away: Predictions, usual: Doubles, seed: int) -> Gate:
    """Opened as far as forecasts for left-out clusters have a smaller squared error than the usual ones."""
    first = fit_gate(data.inputs.embeddings, data.groups, seed)
    near = left_out_similarity(data.inputs.embeddings, data.groups, first, seed=seed)
    better = (usual - data.score) ** 2 - (away.quality - data.score) ** 2
    return tune_gate(first, near, mean_of(better.T))
