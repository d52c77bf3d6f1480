"""Matrix factorisation: a query and a model meet in a few hidden traits, as in RouteLLM and EmbedLLM."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from routers.folded import Array, Arrays, FoldedRouter, Settings
from routers.inputs import Floats, Inputs
from routers.linear import LINEAR, Design, Doubles, linear, sigmoid

if TYPE_CHECKING:
    from routers.training.lesson import Lesson

_STEPS = 200
_RATE = 0.02
_START = 0.05


class FactorizationRouter(FoldedRouter):
    """quality = sigmoid((x U) . v_m + b_m): x the embedding and the facts, U a query tower of `rank` traits, v_m the
    model's. Binary cross-entropy on scores by Adam; it folds to one matrix U V.

    After RouteLLM (arXiv 2406.18665) and EmbedLLM (arXiv 2410.02223), whose element-wise product is in v_m here.
    """

    kind: ClassVar[str] = "matrix_factorization"
    GRID: ClassVar = {"rank": (4,), "decay": (1e-3, 3e-3, 1e-2, 3e-2)}
    ARRAYS = LINEAR

    @classmethod
    def learn(cls, lesson: Lesson, settings: Settings, seed: int) -> dict[str, Array]:
        """See `FoldedRouter`."""
        design = Design.of(lesson.inputs)
        rng = np.random.default_rng(seed)
        weights, bias = fitted(
            design.matrix(lesson.inputs), lesson.score.astype(np.float64), settings["rank"], settings["decay"], rng
        )
        return design.folded(weights, bias)

    @staticmethod
    def told(arrays: Arrays, inputs: Inputs) -> tuple[Floats, None]:
        """See `FoldedRouter`."""
        return sigmoid(linear(arrays, inputs)), None


def fitted(
    columns: Doubles, scores: Doubles, rank: int, decay: float, rng: np.random.Generator
) -> tuple[Doubles, Doubles]:
    """U V [P, M] and b [M] by full-batch Adam on mean cross-entropy + decay x (|U|^2 + |V|^2) / 2 / models."""
    seen = ~np.isnan(scores)
    wanted = np.where(seen, scores, 0.0)
    pairs = float(seen.sum())
    share = (wanted.sum(axis=0) + 0.5) / (seen.sum(axis=0) + 1)
    centre = columns.mean(axis=0)
    columns = columns - centre
    parts = [
        rng.normal(0, _START, (columns.shape[1], rank)),
        rng.normal(0, _START, (rank, scores.shape[1])),
        np.log(share / (1 - share))[None],
    ]
    first, second = ([np.zeros_like(part) for part in parts] for _ in range(2))
    for step in range(1, _STEPS + 1):
        tower, models, bias = parts
        traits = columns @ tower
        rest = np.where(seen, sigmoid(traits @ models + bias) - wanted, 0.0) / pairs
        pulls = (decay / scores.shape[1]) * tower, (decay / scores.shape[1]) * models
        slopes = [columns.T @ (rest @ models.T) + pulls[0], traits.T @ rest + pulls[1], rest.sum(axis=0)[None]]
        rate = _RATE * 0.5 * (1 + np.cos(np.pi * step / _STEPS))
        for place, slope in enumerate(slopes):
            first[place] = 0.9 * first[place] + 0.1 * slope
            second[place] = 0.999 * second[place] + 0.001 * slope**2
            lean, size = first[place] / (1 - 0.9**step), second[place] / (1 - 0.999**step)
            parts[place] = parts[place] - rate * lean / (np.sqrt(size) + 1e-8)
    tower, models, bias = parts
    weights = tower @ models
    return weights, bias[0] - centre @ weights
