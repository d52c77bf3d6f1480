"""Fits the probability that two texts share an answer: a boosted forest and a logistic model, as plain arrays.

It sees numbers only: what they measure, and who uses the arrays, is the business of whoever calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs to learn from: inputs [pairs, inputs], category's place [pairs], whether the answer is the same [pairs]."""

    inputs: Floats
    category: Places
    same: npt.NDArray[np.bool_]

    def of(self, chosen: npt.NDArray[np.bool_]) -> Pairs:
        """Some of them."""
        return Pairs(self.inputs[chosen], self.category[chosen], self.same[chosen])


@dataclass(frozen=True, slots=True)
class Plan:
    """How to fit. `sloped` are the inputs whose weight differs by category; `direction` [inputs] is -1, 0 or 1."""

    categories: int
    sloped: tuple[int, ...]
    direction: tuple[int, ...]
    trees: int = 250
    leaves: int = 15
    depth: int = 7
    rate: float = 0.05
    seed: int = 0


def fit(pairs: Pairs, plan: Plan) -> dict[str, Any]:
    """The arrays of a forest and of a linear model, and how to join their log odds (see `Model` of the verifier)."""
    scale = np.tile(np.array([0.0, 0.5, 0.5], dtype=np.float32), (plan.categories + 1, 1))
    return {**_forest(pairs, plan), "linear": _linear(pairs, plan), "scale": scale}


def _one_hot(category: Places, count: int) -> Floats:
    return np.asarray(np.eye(count + 1, dtype=np.float32)[category][:, :count])


def _forest(pairs: Pairs, plan: Plan) -> dict[str, Any]:
    from sklearn.ensemble import HistGradientBoostingClassifier  # type: ignore[import-untyped]

    told = np.concatenate([_one_hot(pairs.category, plan.categories), pairs.inputs], axis=1)
    forest = HistGradientBoostingClassifier(
        max_iter=plan.trees,
        learning_rate=plan.rate,
        max_leaf_nodes=plan.leaves,
        max_depth=plan.depth,
        min_samples_leaf=min(30, 1 + len(told) // 50),
        l2_regularization=5.0,
        max_features=0.4,
        monotonic_cst=[0] * plan.categories + list(plan.direction),
        early_stopping=False,
        random_state=plan.seed,
    ).fit(told, pairs.same)
    trees = [stage[0].nodes for stage in forest._predictors]
    return {**_flat(trees), "base": float(np.ravel(forest._baseline_prediction)[0])}


def _flat(trees: list[npt.NDArray[Any]]) -> dict[str, Any]:
    """Trees end to end; a leaf points to itself."""
    roots = np.cumsum([0, *(len(tree) for tree in trees[:-1])])
    nodes = np.concatenate(trees)
    offset = np.repeat(roots, [len(tree) for tree in trees])
    leaf = nodes["is_leaf"].astype(bool)
    here = np.arange(len(nodes))
    return {
        "roots": roots.astype(np.int32),
        "feature": np.where(leaf, 0, nodes["feature_idx"]).astype(np.int16),
        "threshold": np.where(leaf, np.inf, nodes["num_threshold"]).astype(np.float32),
        "left": np.where(leaf, here, nodes["left"] + offset).astype(np.int32),
        "right": np.where(leaf, here, nodes["right"] + offset).astype(np.int32),
        "value": np.where(leaf, nodes["value"], 0.0).astype(np.float32),
        "depth": int(nodes["depth"].max()),
    }


def _linear(pairs: Pairs, plan: Plan) -> Floats:
    """Weights by category [categories + 1, inputs + 1], the last column being intercepts."""
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    mean, spread = pairs.inputs.mean(axis=0), pairs.inputs.std(axis=0) + 1e-6
    scaled = (pairs.inputs - mean) / spread
    which = _one_hot(pairs.category, plan.categories)
    sloped = [which * scaled[:, [place]] for place in plan.sloped]
    model = LogisticRegression(C=0.3, max_iter=500).fit(np.concatenate([scaled, which, *sloped], axis=1), pairs.same)
    inputs, count = pairs.inputs.shape[1], plan.categories
    shared, own = model.coef_[0][:inputs], model.coef_[0][inputs:].reshape(1 + len(plan.sloped), count)
    weights = np.tile(shared, (count + 1, 1))
    for step, place in enumerate(plan.sloped):
        weights[:count, place] += own[1 + step]
    intercepts = np.full(count + 1, float(model.intercept_[0]))
    intercepts[:count] += own[0]
    intercepts[count] += own[0].min()
    weights /= spread
    intercepts -= weights @ mean
    return np.concatenate([weights, intercepts[:, None]], axis=1).astype(np.float32)
