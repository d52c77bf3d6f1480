"""A small world that is judged in several tests: one split, one fitted kind, the references."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from routers.predictions import Predictions
from routers.training.dataset import Dataset
from routers.training.simulator import make_world, simulate

WORLD = make_world(models=6, skills=4, seed=3)
DATA = simulate(WORLD, 240, 1, name="known").dataset
OTHER = simulate(WORLD, 90, 2, name="other").dataset


def told(data: Dataset, quality: npt.ArrayLike, tokens: npt.ArrayLike = 100.0) -> Predictions:
    """Forecasts of given quality and tokens, each of any shape that broadcasts to [Q, M]."""
    shape = data.score.shape
    spread = np.broadcast_to(np.asarray(quality, dtype=np.float32), shape)
    written = np.broadcast_to(np.asarray(tokens, dtype=np.float32), shape)
    return Predictions(
        quality=spread,
        low=np.clip(spread - 0.1, 0, 1),
        high=np.clip(spread + 0.1, 0, 1),
        tokens=written,
        tokens_high=written * 2,
        latency_ms=np.full(shape, np.nan, dtype=np.float32),
        usual=spread.mean(axis=0),
        usual_tokens=written.mean(axis=0),
        trust=np.ones(len(data), dtype=np.float32),
    )


def without(data: Dataset, share: float) -> Dataset:
    """The same with a share of the outcomes not observed."""
    hidden = np.random.default_rng(0).random(data.score.shape) < share
    hidden[:, 0] = False
    return replace(data, score=np.where(hidden, np.float32(np.nan), data.score))
