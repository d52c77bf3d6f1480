"""Clusters of queries: a query is answered as well, and as long, as the queries of its nearest clusters were.

The recipe of Avengers-Pro (arXiv 2508.12631): k-means on embeddings, a score and a cost for each model and cluster, the
few nearest clusters taken together. There the trade-off is mixed in; here `choose` makes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from routers.folded import Array, Arrays, FoldedRouter, Settings
from routers.inputs import Floats, Inputs

if TYPE_CHECKING:
    from routers.training.lesson import Lesson

Doubles = npt.NDArray[np.float64]

_ROUNDS = 40
# A cluster's mean weighs the usual one in like so many more queries.
_SHRINKAGE = 5.0


class ClusterRouter(FoldedRouter):
    """quality = mean over the `nearest` clusters of the model's mean score there; the number of clusters is tuned."""

    kind: ClassVar[str] = "cluster"
    GRID: ClassVar = {"clusters": (4, 8, 16, 32, 64), "nearest": (1, 2, 4)}
    ARRAYS = ("centres", "usual", "rests", "nearest")

    @classmethod
    def learn(cls, lesson: Lesson, settings: Settings, seed: int) -> dict[str, Array]:
        """See `FoldedRouter`."""
        embeddings = lesson.inputs.embeddings.astype(np.float64)
        count = max(min(settings["clusters"], len(embeddings) // 4), 1)
        centres, place = _k_means(embeddings, count, np.random.default_rng(seed))
        outcomes = np.hstack([lesson.score, lesson.log_tokens]).astype(np.float64)
        seen = ~np.isnan(outcomes)
        usual = np.where(seen, outcomes, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
        member = np.eye(count)[place].T
        rests = member @ np.where(seen, outcomes - usual, 0.0) / (member @ seen + _SHRINKAGE)
        return {
            "centres": centres.astype(np.float32),
            "usual": usual.astype(np.float32),
            "rests": rests.astype(np.float32),
            "nearest": np.int64(min(settings["nearest"], count)),
        }

    @staticmethod
    def told(arrays: Arrays, inputs: Inputs) -> tuple[Floats, Floats]:
        """See `FoldedRouter`."""
        alike = inputs.embeddings @ arrays["centres"].T
        near = np.argpartition(-alike, int(arrays["nearest"]) - 1, axis=1)[:, : int(arrays["nearest"])]
        rests = arrays["rests"][near].mean(axis=1)
        models = rests.shape[1] // 2
        return rests[:, :models] + arrays["usual"][:models], rests[:, models:]


def _k_means(points: Doubles, count: int, rng: np.random.Generator) -> tuple[Doubles, npt.NDArray[np.intp]]:
    """Unit centres [count, D] and each point's cluster [Q], by cosine; begun as k-means++ does."""
    chosen = [int(rng.integers(len(points)))]
    far = 1 - points @ points[chosen[0]]
    for _ in range(count - 1):
        chances = np.maximum(far, 0.0) + 1e-12
        chosen.append(int(rng.choice(len(points), p=chances / chances.sum())))
        far = np.minimum(far, 1 - points @ points[chosen[-1]])
    centres = points[chosen]
    place = np.full(len(points), -1)
    for _ in range(_ROUNDS):
        moved = (points @ centres.T).argmax(axis=1)
        if (moved == place).all():
            break
        place = moved
        sums = np.eye(count)[place].T @ points
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 1e-9, sums / np.maximum(lengths, 1e-9), centres)
    return centres, place
