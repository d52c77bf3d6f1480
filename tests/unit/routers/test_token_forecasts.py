"""Lengths of answers."""

from __future__ import annotations

import numpy as np
import pytest

from routers.inputs import FACTS, Inputs
from routers.token_forecasts import TokenForecasts


def world(count: int, seed: int) -> tuple[Inputs, np.ndarray]:
    """Three models of usual logarithms 4, 5 and 6, the last twice as moved by the query; noise of 0.2."""
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(count, 8)).astype(np.float32)
    asked = Inputs(embeddings, np.ones(count, np.float32), np.zeros((count, len(FACTS)), np.float32))
    length = embeddings[:, :1] @ np.array([[0.5, 0.5, 1.0]])
    return asked, (np.array([4.0, 5.0, 6.0]) + length + rng.normal(0, 0.2, (count, 3))).astype(np.float32)


def test_medians_follow_the_query() -> None:
    told = TokenForecasts.fit(*world(400, 0), *world(200, 1))
    asked, wrote = world(300, 2)

    assert np.abs(wrote - told.medians(asked)).mean() < 0.2
    assert told.slope[2] > 1.5 * told.slope[0]


def test_nine_of_ten_answers_stay_under_the_upper_forecast() -> None:
    told = TokenForecasts.fit(*world(400, 0), *world(400, 1))
    asked, wrote = world(2000, 2)

    assert (wrote <= told.medians(asked) + told.high).mean() == pytest.approx(0.9, abs=0.03)


def test_deviations_are_beyond_the_usual() -> None:
    told = TokenForecasts.fit(*world(400, 0), *world(200, 1))
    asked, _ = world(50, 3)

    assert np.allclose(told.medians(asked), told.usual + told.deviations(asked), atol=1e-5)


def test_without_any_count_a_general_length_is_told() -> None:
    asked, wrote = world(20, 0)

    told = TokenForecasts.fit(asked, np.full_like(wrote, np.nan), asked, np.full_like(wrote, np.nan))

    assert np.exp(told.medians(asked)) == pytest.approx(200, rel=0.01)
    assert (told.high > 0).all()


def test_a_model_that_wrote_seldom_is_drawn_to_the_others() -> None:
    asked, wrote = world(60, 0)
    wrote[2:, 2] = np.nan

    told = TokenForecasts.fit(asked, wrote, asked, wrote)

    assert np.isfinite(told.medians(asked)).all()
    assert 4.5 < told.usual[2] < 7


def test_arrays_bring_back_the_same_forecasts() -> None:
    told = TokenForecasts.fit(*world(100, 0), *world(50, 1))

    again = TokenForecasts.from_arrays(told.arrays())

    assert np.allclose(again.medians(world(20, 2)[0]), told.medians(world(20, 2)[0]), atol=1e-5)
