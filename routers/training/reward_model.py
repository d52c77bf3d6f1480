"""Foretells rewards for off-policy judgement: each row by a model that was fitted on other rows.

Small on purpose: it only has to take variance away, what it gets wrong the weights put right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routers.training.dataset import Doubles, Indices
from routers.training.logs import Bools, Logs

DIMENSIONS = 16
# Pseudo-observations that hold a model's mean to the common one, a common slope at 0, a model's own slope at 0.
MEAN_STRENGTH, SLOPE_STRENGTH, OWN_STRENGTH = 4.0, 30.0, 100.0


@dataclass(frozen=True, slots=True, eq=False)
class RewardModel:
    """reward = mean of the model + slope x context, with one slope for all models and a small own one for each."""

    mean: Doubles
    slope: Doubles
    own: Doubles

    def foretell(self, features: Doubles) -> Doubles:
        """[N, M] expected rewards within 0..1."""
        told = self.mean + (features @ self.slope)[:, None] + features @ self.own.T
        return np.clip(told, 0.0, 1.0)


def features_of(logs: Logs, dimensions: int = DIMENSIONS) -> Doubles:
    """[N, d] the contexts' main directions, of mean 0 and variance 1; knows no reward."""
    contexts = np.asarray(logs.contexts, dtype=np.float64)
    centred = contexts - contexts.mean(axis=0)
    kept = max(min(dimensions, centred.shape[1], len(centred) // 20), 0)
    if kept == 0:
        return np.zeros((len(centred), 0))
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    scale = np.sqrt(np.maximum(values[-kept:], 1e-12))
    spread: Doubles = centred @ (vectors[:, -kept:] / scale)
    return np.where(scale > 1e-5, spread, 0.0)


def fitted(features: Doubles, chosen: Indices, reward: Doubles, models: int, sloped: bool = True) -> RewardModel:
    """Fit on rows of known reward (0..1): shrunk means, then a common ridge, then a ridge for each model's rest."""
    dimensions = features.shape[1]
    mean = _shrunk_means(reward, chosen, models, float(reward.mean()))
    if not sloped or dimensions == 0:
        return RewardModel(mean, np.zeros(dimensions), np.zeros((models, dimensions)))
    rest = reward - mean[chosen]
    unit = np.eye(dimensions)
    slope = np.linalg.solve(features.T @ features + SLOPE_STRENGTH * unit, features.T @ rest).astype(np.float64)
    rest = rest - features @ slope
    gram, moment = np.zeros((models, dimensions, dimensions)), np.zeros((models, dimensions))
    for model in np.unique(chosen):
        own_rows = features[chosen == model]
        gram[model], moment[model] = own_rows.T @ own_rows, own_rows.T @ rest[chosen == model]
    own = np.linalg.solve(gram + OWN_STRENGTH * unit, moment[:, :, None])[:, :, 0].astype(np.float64)
    mean = mean + _shrunk_means(rest - (features * own[chosen]).sum(axis=1), chosen, models, 0.0)
    return RewardModel(mean, slope, own)


def cross_fitted(logs: Logs, features: Doubles, reward: Doubles, folds: Indices, sloped: bool) -> Doubles:
    """[N, M] rewards foretold for each row by a model of the other folds' rows; all rows must be judged."""
    told = np.empty((len(logs), len(logs.models)))
    for fold in np.unique(folds):
        here: Bools = folds == fold
        model = fitted(features[~here], logs.chosen[~here], reward[~here], len(logs.models), sloped)
        told[here] = model.foretell(features[here])
    return told


def folds_of(logs: Logs, count: int, seed: int) -> Indices:
    """[N] a fold's number for each row; rows of one group share it. At least two folds where there are two groups."""
    numbers = np.arange(len(logs)) if logs.groups is None else np.unique(logs.groups, return_inverse=True)[1]
    groups = int(numbers.max()) + 1
    shuffled = np.random.default_rng(seed).permutation(groups)
    return (shuffled % max(min(count, groups), 2))[numbers]


def _shrunk_means(values: Doubles, chosen: Indices, models: int, centre: float) -> Doubles:
    counts = np.bincount(chosen, minlength=models)
    sums = np.bincount(chosen, weights=values, minlength=models)
    return (sums + MEAN_STRENGTH * centre) / (counts + MEAN_STRENGTH)
