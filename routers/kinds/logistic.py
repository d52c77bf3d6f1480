"""Logistic regression of each model's score on the query, on soft scores too."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from routers.folded import Array, Arrays, FoldedRouter, Settings
from routers.inputs import Floats, Inputs
from routers.linear import LINEAR, Design, Doubles, linear, sigmoid

if TYPE_CHECKING:
    from routers.training.lesson import Lesson

_ROUNDS = 400
_ENOUGH = 3e-4


class LogisticRouter(FoldedRouter):
    """quality = sigmoid(w_m . x + b_m), x the embedding and the facts; the weights' penalty is tuned.

    Cross-entropy is bounded from above by one quadratic for all models (Böhning 1992), so that one factorised matrix
    serves every step; Nesterov's momentum makes the steps few.
    """

    kind: ClassVar[str] = "logistic"
    GRID: ClassVar = {"penalty": (1.0, 3.0, 10.0, 30.0, 100.0)}
    ARRAYS = LINEAR

    @classmethod
    def learn(cls, lesson: Lesson, settings: Settings, seed: int) -> dict[str, Array]:
        """See `FoldedRouter`."""
        design = Design.of(lesson.inputs)
        weights = fitted(design.matrix(lesson.inputs), lesson.score.astype(np.float64), settings["penalty"])
        return design.folded(weights[:-1], weights[-1])

    @staticmethod
    def told(arrays: Arrays, inputs: Inputs) -> tuple[Floats, None]:
        """See `FoldedRouter`."""
        return sigmoid(linear(arrays, inputs)), None


def fitted(columns: Doubles, scores: Doubles, penalty: float) -> Doubles:
    """Weights [P + 1, M], the last row the bias, which costs next to nothing."""
    columns = np.hstack([columns, np.ones((len(columns), 1))])
    costs = np.full((columns.shape[1], 1), penalty)
    costs[-1] = 1e-3
    seen = ~np.isnan(scores)
    wanted = np.where(seen, scores, 0.0)
    bound = np.linalg.inv(0.25 * columns.T @ columns + np.diag(costs[:, 0]))
    weights = ahead = np.zeros((columns.shape[1], scores.shape[1]))
    weights[-1] = _logit((wanted.sum(axis=0) + 0.5) / (seen.sum(axis=0) + 1))
    ahead, pace = weights.copy(), 1.0
    for _ in range(_ROUNDS):
        rest = np.where(seen, wanted - sigmoid(columns @ ahead), 0.0)
        step = bound @ (columns.T @ rest - costs * ahead)
        moved, faster = ahead + step, (1 + np.sqrt(1 + 4 * pace**2)) / 2
        ahead = moved + (pace - 1) / faster * (moved - weights)
        weights, pace = moved, faster
        if np.abs(step).max() < _ENOUGH:
            break
    return weights


def _logit(share: Doubles) -> Doubles:
    return np.log(share / (1 - share))
