"""Ridge regression of each model's score on the query: the plainest router that looks at what is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from routers.folded import Array, Arrays, FoldedRouter, Settings
from routers.inputs import Floats, Inputs
from routers.linear import LINEAR, Design, linear, ridge

if TYPE_CHECKING:
    from routers.training.lesson import Lesson


class RidgeRouter(FoldedRouter):
    """quality = w_m . x + b_m, x the embedding and the facts; closed form, one penalty for all models."""

    kind: ClassVar[str] = "ridge"
    GRID: ClassVar = {"penalty": (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)}
    ARRAYS = LINEAR

    @classmethod
    def learn(cls, lesson: Lesson, settings: Settings, seed: int) -> dict[str, Array]:
        """See `FoldedRouter`."""
        design = Design.of(lesson.inputs)
        return design.folded(*ridge(design.matrix(lesson.inputs), lesson.score, settings["penalty"]))

    @staticmethod
    def told(arrays: Arrays, inputs: Inputs) -> tuple[Floats, None]:
        """See `FoldedRouter`."""
        return linear(arrays, inputs), None
