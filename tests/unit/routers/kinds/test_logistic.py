"""Logistic regression."""

from __future__ import annotations

import numpy as np

from routers.kinds import logistic
from routers.linear import sigmoid


def planted(queries: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(queries, 4))
    logits = columns @ rng.normal(size=(4, 3)) + [1.0, 0.0, -1.0]
    return columns, np.asarray(sigmoid(logits))


def test_soft_scores_give_back_the_plane_they_were_made_of() -> None:
    columns, scores = planted(300)

    weights = logistic.fitted(columns, scores, 1e-3)

    told = sigmoid(np.hstack([columns, np.ones((300, 1))]) @ weights)
    assert np.abs(told - scores).max() < 0.01


def test_at_the_end_the_slope_is_none() -> None:
    columns, scores = planted(80)
    scores[:40, 1] = np.nan
    penalty = 2.0

    weights = logistic.fitted(columns, scores, penalty)

    wide = np.hstack([columns, np.ones((80, 1))])
    rest = np.nan_to_num(sigmoid(wide @ weights) - scores)
    slope = wide.T @ rest + np.array([penalty] * 4 + [1e-3])[:, None] * weights
    assert np.abs(slope).max() < 0.02


def test_constant_scores_stay_finite() -> None:
    columns, scores = planted(50)

    weights = logistic.fitted(columns, np.ones_like(scores), 1.0)

    assert np.isfinite(weights).all()
    assert (sigmoid(np.hstack([columns, np.ones((50, 1))]) @ weights) > 0.9).all()
