"""The baseline that every learned router must beat: each model's mean score and tokens, whatever is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from routers.folded import Array, Arrays, FoldedRouter, Settings
from routers.inputs import Floats, Inputs

if TYPE_CHECKING:
    from routers.training.lesson import Lesson


class MeanRouter(FoldedRouter):
    """quality(query, model) = mean score of the model: so `choose` takes the best single model of each trade-off."""

    kind: ClassVar[str] = "mean"
    mended = False  # means can't be too smooth
    needs_embedding: ClassVar[bool] = False
    takes: ClassVar[frozenset[str]] = frozenset()
    ARRAYS = ("mean",)

    @classmethod
    def learn(cls, lesson: Lesson, settings: Settings, seed: int) -> dict[str, Array]:
        """See `FoldedRouter`."""
        return {"mean": lesson.usual().astype(np.float32)}

    @staticmethod
    def told(arrays: Arrays, inputs: Inputs) -> tuple[Floats, Floats]:
        """See `FoldedRouter`."""
        scores = np.tile(arrays["mean"], (len(inputs), 1))
        return scores, np.zeros_like(scores)
