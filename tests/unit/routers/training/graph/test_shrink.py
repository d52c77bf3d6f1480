"""How far the graph's forecasts are believed."""

from __future__ import annotations

import numpy as np

from routers.training.graph.shrink import best_limits, quality_of, shrunk


def test_no_own_part_leaves_what_models_have_in_common() -> None:
    deviation = np.array([[1.0, 3.0], [-2.0, 0.0]])

    assert np.allclose(shrunk(deviation, 0.0), [[2, 2], [-1, -1]])
    assert np.allclose(shrunk(deviation, 1.0), deviation)


def test_qualities_keep_their_usual_means() -> None:
    deviation = np.random.default_rng(0).normal(size=(500, 3))
    usual = np.array([0.3, 0.6, 0.9])

    quality, _ = quality_of(deviation, usual)

    assert np.allclose(quality.mean(axis=0), usual, atol=1e-3)


def test_trust_ends_where_forecasts_lose() -> None:
    familiar, strange = np.linspace(0.6, 1, 200, dtype=np.float32), np.linspace(0, 0.7, 400, dtype=np.float32)
    losses = np.full(400, -0.1)

    low, high = best_limits(familiar, strange, losses)

    assert high - low <= 0.05
    assert high >= 0.6


def test_trust_goes_on_where_forecasts_win() -> None:
    familiar, strange = np.linspace(0.6, 1, 200, dtype=np.float32), np.linspace(0, 0.7, 400, dtype=np.float32)

    low, _ = best_limits(familiar, strange, np.full(400, 0.1))

    assert low < 0.4
