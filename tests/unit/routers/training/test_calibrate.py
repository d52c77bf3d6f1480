"""Fits of calibration tables on forecasts whose fault is known, and on a simulated world."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.find import router_class
from routers.learned import LearnedRouter
from routers.training.calibrate import (
    cells_of,
    common_line,
    fit_quality_map,
    fit_token_bounds,
    half_width,
    pooled_slope,
)
from routers.training.calibrated import fit_calibration
from routers.training.crossfit import out_of_cluster, out_of_fold, out_of_models
from routers.training.dataset import Dataset
from routers.training.metrics import expected_calibration_error, interval_coverage
from tests.unit.routers.training.judged import DATA, OTHER

IDS = ["a", "b", "c"]


def flawed(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Forecasts that are a square root too high for the first two models and right for the third; and scores."""
    rng = np.random.default_rng(seed)
    true = rng.random((rows, 3)) * 0.9
    told = np.where(np.arange(3) < 2, np.sqrt(true), true)
    return told.astype(np.float32), (rng.random((rows, 3)) < true).astype(np.float32)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.1, 9)), min_size=1, max_size=40))
def test_the_nearest_rising_sequence_rises_and_keeps_the_weighted_mean(pairs: list[tuple[float, float]]) -> None:
    values, weights = np.array(pairs).T
    found = pooled_slope(values, weights)
    assert (np.diff(found) >= -1e-9).all()
    assert (found * weights).sum() == pytest.approx((values * weights).sum(), abs=1e-6)


def test_recalibration_mends_a_systematic_fault_on_rows_that_it_has_not_seen() -> None:
    (told, score), (fresh, outcome) = flawed(5000, 1), flawed(5000, 2)
    mended = fit_quality_map(told, score, IDS).apply(fresh, IDS)
    assert expected_calibration_error(fresh, outcome) > 0.08
    assert expected_calibration_error(mended, outcome) < 0.02


def test_intervals_cover_the_means_of_unseen_cells_as_often_as_they_say() -> None:
    (told, score), (fresh, outcome) = flawed(2000, 3), flawed(2000, 4)
    quality, low, high = fit_quality_map(told, score, IDS).bounds(fresh, IDS)
    assert 0.86 <= interval_coverage(quality, low, high, outcome) <= 0.98


def test_a_model_with_few_outcomes_follows_the_others() -> None:
    told, score = flawed(1500, 5)
    score[10:, 0] = np.nan
    mended = fit_quality_map(told, score, IDS).apply(np.array([[0.8, 0.8]]), ["a", "new"])
    assert mended[0, 0] == pytest.approx(mended[0, 1], abs=0.05)


def test_unknown_models_follow_what_strangers_were_forecast() -> None:
    told, score = flawed(1500, 6)
    strangers = np.full_like(told, 0.9)
    made = fit_quality_map(told, score, IDS, strangers)
    assert made.apply(np.array([[0.9]]), ["new"])[0, 0] == pytest.approx(float(score.mean()), abs=0.05)


def test_without_any_outcome_there_is_nothing_to_calibrate_on() -> None:
    told, score = flawed(10, 7)
    with pytest.raises(ValueError, match="no outcome to calibrate on"):
        fit_quality_map(told, np.full_like(score, np.nan), IDS)


def test_too_few_rows_for_cells_give_wide_intervals_instead_of_none() -> None:
    told, score = flawed(12, 8)
    _, low, high = fit_quality_map(told, score, IDS).bounds(np.array([[0.5]]), ["a"])
    assert high[0, 0] - low[0, 0] > 0.4
    assert len(cells_of(told, score).off) == 0


def lengths(rows: int, seed: int, models: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Forecast tokens, and written ones whose spread differs by model."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(50, 500, (rows, models)).astype(np.float32)
    spread = np.linspace(0.2, 1.2, models)
    return tokens, (tokens * np.exp(rng.normal(0.3, spread, (rows, models)))).astype(np.float32)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9, 0.95])
def test_token_quantiles_hold_for_each_model_on_rows_that_were_not_seen(level: float) -> None:
    (tokens, written), (fresh, outcome) = lengths(2000, 1), lengths(2000, 2)
    bounds = fit_token_bounds(tokens, written, IDS).quantile(fresh, IDS, level)
    assert (outcome <= bounds).mean(axis=0) == pytest.approx(np.full(3, level), abs=0.04)


def test_token_quantiles_of_a_new_model_cover_what_left_out_models_wrote() -> None:
    (tokens, written), (fresh, outcome) = lengths(800, 3, 8), lengths(800, 4, 8)
    ids = [f"m{place}" for place in range(8)]
    bounds = fit_token_bounds(tokens, written, ids, strangers=tokens)
    assert (outcome <= bounds.quantile(fresh, ["new"] * 8)).mean() == pytest.approx(0.9, abs=0.02)


def test_without_token_counts_the_forecast_stays() -> None:
    tokens, written = lengths(20, 5)
    bounds = fit_token_bounds(tokens, np.full_like(written, np.nan), IDS)
    assert bounds.quantile(tokens, IDS) == pytest.approx(tokens)


def ridge(data: Dataset) -> LearnedRouter:
    kind = router_class("ridge")
    assert issubclass(kind, LearnedRouter)
    return kind.fit(data, seed=0)


def test_cross_fits_forecast_every_pair_without_its_row_or_model() -> None:
    told, unseen, away = out_of_fold(ridge, DATA), out_of_models(ridge, DATA), out_of_cluster(ridge, DATA)
    for made in (told, unseen, away):
        assert made.quality.shape == DATA.score.shape and np.isfinite(made.quality).all()
    seen = ridge(DATA).predict(DATA.inputs, DATA.models).quality
    error = [float(((made - DATA.score) ** 2).mean()) for made in (seen, told.quality, unseen.quality)]
    assert error == sorted(error)


def test_a_whole_calibration_is_fitted_and_helps_on_other_queries() -> None:
    made = fit_calibration(ridge, DATA)
    raw = ridge(DATA).predict(OTHER.inputs, OTHER.models)
    ids = [card.id for card in DATA.models]
    told = made.apply(raw, OTHER.inputs.embeddings, ids)
    assert expected_calibration_error(told.quality, OTHER.score) < 0.08
    assert (told.low <= told.quality).all() and (told.quality <= told.high).all()
    assert (OTHER.output_tokens <= told.tokens_high).mean() == pytest.approx(0.9, abs=0.06)


def test_the_same_data_give_the_same_calibration() -> None:
    one, other = (fit_calibration(ridge, DATA, new_models=False).arrays() for _ in range(2))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_forecasts_that_are_right_need_next_to_no_interval_though_single_outcomes_scatter() -> None:
    rng = np.random.default_rng(0)
    quality = rng.random((4000, 2))
    score = (rng.random((4000, 2)) < quality).astype(np.float32)

    right, off = half_width(quality, score), half_width(np.clip(quality + 0.2, 0, 1), score)

    assert right < 0.04
    assert 0.2 < off < 0.3


def test_without_outcomes_the_interval_is_wide() -> None:
    assert half_width(np.zeros((3, 2)), np.full((3, 2), np.nan)) == 0.25


@pytest.mark.parametrize("gaps", [0.0, 0.5])
def test_forecasts_too_high_that_move_half_as_far_as_scores_do_are_seen_through(gaps: float) -> None:
    rng = np.random.default_rng(0)
    hardness, apart = rng.normal(0, 0.2, (2000, 1)), np.array([[-0.1, 0.0, 0.1]])
    score = np.where(rng.random((2000, 3)) < gaps, np.nan, 0.5 + hardness + apart)

    shift, slope = common_line(0.6 + hardness / 2 + apart, np.full(3, 0.5), score)

    assert slope == pytest.approx(2, abs=0.1)
    assert shift == pytest.approx(-0.2, abs=0.02)


def test_of_no_queries_the_common_line_leaves_all_as_it_is() -> None:
    assert common_line(np.zeros((0, 2)), np.zeros(2), np.zeros((0, 2))) == (0.0, 1.0)


def test_forecasts_that_hardly_move_are_not_stretched() -> None:
    rng = np.random.default_rng(0)
    told = 0.5 + rng.normal(0, 0.001, (150, 1)) + np.zeros((1, 3))
    score = (rng.random((150, 3)) < 0.5).astype(np.float64)

    assert common_line(told, np.full(3, 0.5), score)[1] == pytest.approx(1, abs=0.1)
