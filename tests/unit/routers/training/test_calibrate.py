"""What makes forecasts mean what they say, on forecasts whose fault is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routers.linear import sigmoid
from routers.training.calibrate import cells_of, half_width, hardness_weights, own_hardness


def faulty(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Forecasts too high that move half as far as true chances do for all models alike; scores; and true chances."""
    rng = np.random.default_rng(seed)
    hardness, models = rng.normal(0, 1.5, (rows, 1)), np.linspace(-1, 1, 6)
    true = sigmoid(hardness + models)
    told = sigmoid(hardness / 2 + models + 0.7).astype(np.float32)
    return told, (rng.random((rows, 6)) < true).astype(np.float32), true


@pytest.mark.parametrize("gaps", [0.0, 0.5])
def test_forecasts_too_high_that_move_too_little_are_seen_through_and_keep_their_order(gaps: float) -> None:
    told, score, _ = faulty(2000, 0)
    score[np.random.default_rng(0).random(score.shape) < gaps] = np.nan
    own = own_hardness(told, np.nanmean(score, axis=0))

    weights = hardness_weights([(own, np.arange(2000))], told, score)

    fresh, _, true = faulty(500, 1)
    mended = replace(own, **weights).mended(fresh)
    off, before = (float(np.abs(one - true).mean()) for one in (mended, fresh))
    assert off < 0.02 and before > 0.1
    assert np.array_equal(mended.argsort(axis=1), fresh.argsort(axis=1))


def test_a_forecaster_that_is_too_high_is_lifted_down_to_the_usual_scores() -> None:
    told, score, _ = faulty(500, 0)

    mended = own_hardness(told, score.mean(axis=0)).mended(told)

    assert mended.mean() == pytest.approx(score.mean(), abs=1e-3)


def test_parts_that_forecasters_of_unlike_scales_told_are_brought_to_one() -> None:
    told, score, true = faulty(2000, 0)
    parts = np.split(np.arange(2000), 2)
    told[parts[1]] = sigmoid(0.5 * np.log(told[parts[1]] / (1 - told[parts[1]])))
    own = [(own_hardness(told[part], score.mean(axis=0)), part) for part in parts]

    weights = hardness_weights(own, told, score)

    for one, part in own:
        assert np.abs(replace(one, **weights).mended(told[part]) - true[part]).mean() < 0.08


def test_of_no_outcomes_nothing_is_learned() -> None:
    own = own_hardness(np.full((4, 2), 0.5), np.full(2, 0.5))

    weights = hardness_weights([(own, np.arange(4))], np.full((4, 2), 0.5), np.full((4, 2), np.nan))

    assert weights == pytest.approx({"base": 0, "slope": 0, "bend": 0})


def test_forecasts_that_hardly_move_are_not_stretched() -> None:
    rng = np.random.default_rng(0)
    told = (0.5 + rng.normal(0, 0.001, (150, 1)) + np.zeros((1, 3))).astype(np.float32)
    score = (rng.random((150, 3)) < 0.5).astype(np.float32)
    own = own_hardness(told, np.full(3, 0.5))

    mended = replace(own, **hardness_weights([(own, np.arange(150))], told, score)).mended(told)

    assert np.abs(mended - 0.5).mean() < 0.05


def test_too_few_rows_give_no_cells() -> None:
    told, score, _ = faulty(12, 8)

    assert len(cells_of(told, score).off) == 0


def test_forecasts_that_are_right_need_next_to_no_interval_though_single_outcomes_scatter() -> None:
    rng = np.random.default_rng(0)
    quality = rng.random((4000, 2))
    score = (rng.random((4000, 2)) < quality).astype(np.float32)

    right, off = half_width(quality, score), half_width(np.clip(quality + 0.2, 0, 1), score)

    assert right < 0.04
    assert 0.2 < off < 0.3


def test_without_outcomes_the_interval_is_wide() -> None:
    assert half_width(np.zeros((3, 2)), np.full((3, 2), np.nan)) == 0.25
