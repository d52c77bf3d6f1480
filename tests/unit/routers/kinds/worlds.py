"""Two skills and two models that have one each: what a router that looks at queries must find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from routers.training.dataset import Dataset, Floats
from routers.training.simulator import make_world, simulate


def specialists(queries: int, seed: int) -> Dataset:
    """Model 0 is right on the first skill's queries in 9 of 10, on the others in 1 of 10; model 1 the reverse."""
    world = make_world(models=2, skills=2, dimensions=8, seed=0, hardness=0.0)
    skilled = replace(world, abilities=np.log(np.array([[9.0, 1 / 9], [1 / 9, 9.0]])))
    return simulate(skilled, queries, seed=seed).dataset


def hits(quality: Floats, data: Dataset) -> float:
    """Mean score of the better forecast of each query."""
    return float(data.score[np.arange(len(data)), quality.argmax(axis=1)].mean())
