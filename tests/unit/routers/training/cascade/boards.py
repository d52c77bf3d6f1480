"""Boards of outcomes with a known best way to play."""

from __future__ import annotations

import numpy as np

from routers.cascade_value import CONTEXT, HINTS
from routers.training.cascade.board import Board
from routers.training.dataset import Floats


def board(
    score: list[list[float]],
    paid: list[list[float]],
    quality: list[list[float]] | None = None,
    hint: Floats | None = None,
) -> Board:
    """A board of the given scores and costs, [Q][M]; forecasts are the means of the columns unless given."""
    scores = np.array(score, dtype=np.float32)
    told = np.broadcast_to(np.nanmean(scores, axis=0), scores.shape) if quality is None else np.array(quality)
    hints = np.full((*scores.shape, HINTS), np.nan, dtype=np.float32)
    if hint is not None:
        hints[..., 0] = hint
    costs = np.array(paid, dtype=np.float64)
    return Board(
        quality=told.astype(np.float32).copy(),
        forecast_usd=costs.copy(),
        context=np.zeros((len(scores), CONTEXT), dtype=np.float32),
        length=np.full(scores.shape, np.nan, dtype=np.float32),
        hints=hints,
        score=scores,
        paid_usd=costs,
    )


def hard_and_easy(queries: int, seed: int, tell: float) -> Board:
    """A cheap model that is right in easy questions, a dear one that always is; no forecast tells them apart.

    The length of the cheap answer does, by `tell` spreads (0: not at all).
    """
    rng = np.random.default_rng(seed)
    easy = rng.random(queries) < 0.6
    made = board(np.stack((easy, np.ones(queries)), axis=1).astype(float).tolist(), [[0.001, 0.02]] * queries)
    made.length[:, 0] = rng.normal(0, 1, queries) + np.where(easy, -tell / 2, tell / 2)
    made.length[:, 1] = rng.normal(0, 1, queries)
    return made
