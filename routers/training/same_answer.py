"""Fits the probability that two texts share an answer: boosted forests, a logistic model, a small net, as plain arrays.

It sees numbers only: what they measure, and who uses the arrays, is the business of whoever calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from routers.training.small_net import NetPlan, fit_net

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]
FAR = 5.0
_ENOUGH = 800
_ENOUGH_SAME = 50


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs to learn from: inputs [pairs, inputs], category's place [pairs], whether the answer is the same [pairs]."""

    inputs: Floats
    category: Places
    same: npt.NDArray[np.bool_]

    def of(self, chosen: npt.NDArray[np.bool_]) -> Pairs:
        """Some of them."""
        return Pairs(self.inputs[chosen], self.category[chosen], self.same[chosen])

    def and_of(self, more: Pairs) -> Pairs:
        """These and those; a category's place may be one behind the last: it is not known then."""
        return Pairs(
            np.concatenate([self.inputs, more.inputs]),
            np.concatenate([self.category, more.category]),
            np.concatenate([self.same, more.same]),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """How to fit. `sloped` are the inputs whose weight differs by category; `direction` [inputs] is -1, 0 or 1."""

    categories: int
    sloped: tuple[int, ...]
    direction: tuple[int, ...]
    trees: int = 250
    own_trees: int = 100
    nets: int = 3
    leaves: int = 15
    depth: int = 7
    rate: float = 0.05
    seed: int = 0


def fit(pairs: Pairs, plan: Plan) -> dict[str, Any]:
    """The arrays of all parts, and how to join their log odds (see `Model` of the verifier)."""
    told = np.concatenate([_one_hot(pairs.category, plan.categories), pairs.inputs], axis=1)
    shared = _forest(told, pairs.same, plan)
    own = [_own(pairs.of(pairs.category == place), plan) for place in range(plan.categories)]
    trees = [tree for forest in (shared, *own) if forest is not None for tree in _trees(forest)]
    flat = _flat(trees)
    counts = [0 if forest is None else len(_trees(forest)) for forest in own]
    first = len(_trees(shared))
    scale = np.tile(np.array([0.0, 1, 1, 0, 1], dtype=np.float32) / 3, (plan.categories + 1, 1))
    scale[:-1][[forest is not None for forest in own]] = np.array([0.0, 1, 1, 2, 2]) / 6
    return {
        **flat,
        "roots": flat["roots"][:first],
        "base": _base(shared),
        "own_roots": flat["roots"][first:],
        "own_spans": np.cumsum([0, *counts]).astype(np.int32),
        "own_base": np.array([0.0 if forest is None else _base(forest) for forest in own], dtype=np.float32),
        "linear": _linear(pairs, plan),
        **_net(pairs, plan),
        "scale": scale,
    }


def _one_hot(category: Places, count: int) -> Floats:
    return np.asarray(np.eye(count + 1, dtype=np.float32)[category][:, :count])


def _forest(told: Floats, same: npt.NDArray[np.bool_], plan: Plan) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier  # type: ignore[import-untyped]

    return HistGradientBoostingClassifier(
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
    ).fit(told, same)


def _own(pairs: Pairs, plan: Plan) -> Any:
    """A smaller forest of one category's pairs, None where they are too few."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    if len(pairs.same) < _ENOUGH or not _ENOUGH_SAME <= pairs.same.sum() < len(pairs.same):
        return None
    told = np.concatenate([_one_hot(pairs.category, plan.categories), pairs.inputs], axis=1)
    return HistGradientBoostingClassifier(
        max_iter=plan.own_trees,
        learning_rate=0.06,
        max_leaf_nodes=8,
        max_depth=plan.depth,
        min_samples_leaf=15,
        l2_regularization=3.0,
        max_features=0.3,
        monotonic_cst=[0] * plan.categories + list(plan.direction),
        early_stopping=False,
        random_state=plan.seed,
    ).fit(told, pairs.same)


def _trees(forest: Any) -> list[npt.NDArray[Any]]:
    return [stage[0].nodes for stage in forest._predictors]


def _base(forest: Any) -> float:
    return float(np.ravel(forest._baseline_prediction)[0])


def _net(pairs: Pairs, plan: Plan) -> dict[str, Any]:
    """Centres and widths of the inputs, and nets of one column a category and the inputs, at most FAR from 0."""
    center, width = pairs.inputs.mean(axis=0), pairs.inputs.std(axis=0) + np.float32(1e-6)
    scaled = np.clip((pairs.inputs - center) / width, -FAR, FAR)
    rows = np.concatenate([_one_hot(pairs.category, plan.categories), scaled], axis=1)
    nets = [fit_net(rows, pairs.same, NetPlan(seed=plan.seed + place)) for place in range(plan.nets)]
    layers = [np.stack(arrays) for arrays in zip(*nets, strict=True)]
    return {"center": center, "width": width, **{f"net_{place}": layer for place, layer in enumerate(layers)}}


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
