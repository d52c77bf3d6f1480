"""Lengths of answers."""

from __future__ import annotations

import numpy as np
import pytest

from routers.inputs import FACTS, Inputs
from routers.token_forecasts import TokenForecasts, lift


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


def test_the_mean_lies_above_the_median_by_what_was_written_beyond_it() -> None:
    asked, wrote = world(600, 0)
    wide = np.random.default_rng(3).normal(0, 1.0, len(wrote)).astype(np.float32)
    wrote[:, 1] += wide

    told = TokenForecasts.fit(asked, wrote, asked, wrote)

    foretold = np.exp(told.medians(asked).astype(np.float64) + told.mean)
    assert foretold.sum(axis=0) == pytest.approx(np.exp(wrote.astype(np.float64)).sum(axis=0), rel=0.06)
    assert told.mean[1] > 0.35
    assert 0 < told.mean[0] < 0.1


def test_a_mean_that_few_answers_tell_is_drawn_to_that_of_all_models() -> None:
    asked, wrote = world(600, 0)
    wrote[2:, 2] = np.nan

    told = TokenForecasts.fit(asked, wrote, asked, wrote)

    assert told.mean[2] == pytest.approx(told.mean[:2].mean(), abs=0.06)


def test_arrays_without_a_mean_are_read_as_if_it_were_the_median() -> None:
    kept = TokenForecasts.fit(*world(100, 0), *world(50, 1)).arrays()

    assert TokenForecasts.from_arrays(kept).mean.any()
    assert not TokenForecasts.from_arrays({name: one for name, one in kept.items() if name != "tokens_mean"}).mean.any()


def test_where_nothing_is_familiar_answers_are_at_least_ordinary_and_models_stay_as_wordy_beside_each_other() -> None:
    letters = np.log([1.0, 2.0, 8.0])

    assert np.exp(letters + lift(letters)) == pytest.approx([100, 200, 800])
    assert lift(np.log([100.0, 300.0, 900.0])) == 0 == lift(np.array([]))
