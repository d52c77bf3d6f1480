"""The numbers that routers are judged by, on cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from routers.training.choices import Taken, bench_of, taken_by
from routers.training.judge import fit
from routers.training.metrics import (
    afforded,
    aiq,
    brier,
    calibration_curve,
    cheapest_place,
    conformal_coverage,
    decision_ms,
    expected_calibration_error,
    first_half,
    frontier,
    interval_coverage,
    pareto_distance,
    rewards,
    tuned,
)
from tests.unit.routers.training.judged import DATA, told

ONE, HUNDRED = np.array([1.0]), np.array([100.0])


def test_aiq_of_a_rise_over_the_first_half_of_log_cost() -> None:
    cost, score = np.array([[1.0, 10.0, 100.0]]), np.array([[0.4, 0.8, 0.6]])

    # From .4 to .8 over one decade, then flat: the dearer and worse point does not count.
    assert aiq(cost, score, ONE, HUNDRED) == pytest.approx((0.6 + 0.8) / 2)


def test_linear_aiq_weighs_dollars_evenly() -> None:
    cost, score = np.array([[1.0, 10.0, 100.0]]), np.array([[0.4, 0.8, 0.6]])

    assert aiq(cost, score, ONE, HUNDRED, log=False) == pytest.approx((0.6 * 9 + 0.8 * 90) / 99)


def test_a_point_below_the_hull_adds_nothing_and_one_above_the_dearest_model_neither() -> None:
    cost = np.array([[1.0, 10.0, 100.0, 100.0], [1.0, 10.0, 100.0, 500.0]])
    score = np.array([[0.2, 0.3, 0.8, 0.8], [0.2, 0.3, 0.8, 1.0]])

    assert aiq(cost, score, np.ones(2), np.full(2, 100.0)) == pytest.approx([0.5, 0.5])


def test_a_curve_that_begins_late_is_flat_before_it_begins() -> None:
    assert aiq(np.array([[10.0]]), np.array([[0.7]]), ONE, HUNDRED) == pytest.approx(0.7)


def test_where_all_models_cost_the_same_aiq_is_the_best_score() -> None:
    assert aiq(np.array([[1.0, 1.0]]), np.array([[0.3, 0.9]]), ONE, ONE) == pytest.approx(0.9)


def test_a_free_model_counts_as_a_ten_thousandth_of_the_dearest() -> None:
    cost, score = np.array([[0.0, 100.0]]), np.array([[0.5, 0.9]])

    assert aiq(cost, score, np.zeros(1), HUNDRED) == pytest.approx(0.7)
    assert aiq(cost, score, np.array([0.01]), HUNDRED) == pytest.approx(0.7)


CURVES = arrays(np.float64, (1, 6), elements=st.floats(0, 1))


@given(score=CURVES, better=CURVES)
def test_aiq_lies_within_the_scores_and_never_falls_when_scores_rise(
    score: np.ndarray[tuple[int, int], np.dtype[np.float64]], better: np.ndarray[tuple[int, int], np.dtype[np.float64]]
) -> None:
    cost = np.logspace(0, 2, 6)[None]
    value = aiq(cost, score, ONE, HUNDRED)[0]

    assert score.min() - 1e-9 <= value <= score.max() + 1e-9
    assert aiq(cost, np.maximum(score, better), ONE, HUNDRED)[0] >= value - 1e-9


def test_rewards_at_the_trade_offs_weigh_score_and_normalised_cost() -> None:
    bench = bench_of(DATA)
    took = taken_by(bench, told(DATA, 0.5))
    found = rewards(bench, took.cost.mean(axis=1)[None], took.score.mean(axis=1)[None])

    place = bench.at("CF")
    normal = (took.cost[place].mean() - bench.least) / bench.span
    assert found["CF"][0] == pytest.approx(0.2 * took.score[place].mean() - 0.8 * normal)
    assert found["PF"][0] == pytest.approx(took.score[bench.at("PF")].mean())


def test_the_cheapest_place_that_reaches_a_target_or_none() -> None:
    cost, score = np.array([3.0, 2.0, 1.0]), np.array([0.9, 0.8, 0.2])

    assert cheapest_place(cost, score, 0.8) == 1
    assert cheapest_place(cost, score, 0.95) is None


def test_what_the_best_single_s_cost_affords_is_the_first_weight_that_never_costs_more() -> None:
    bench = bench_of(DATA)
    rows, count = len(bench.weights) + 2, len(DATA)
    score, cost = (np.tile(np.linspace(one, 0.1, rows)[:, None], (1, count)) for one in (0.9, 3.0))
    best = Taken(np.full((rows, count), 0.5), np.full((rows, count), 2.0))

    found, spent = afforded(bench, Taken(score, cost), best)

    place = int(np.flatnonzero(cost[:, 0] <= 2.0)[0])
    assert (found == score[place, 0]).all() and (spent == cost[place, 0]).all()


def test_a_tuned_weight_is_the_last_before_the_other_half_falls_short() -> None:
    bench = bench_of(DATA)
    rows = len(bench.weights) + 2
    steps = np.linspace(1.0, 0.0, rows)[:, None]
    outcomes = Taken(np.tile(steps, (1, len(DATA))), np.tile(steps * 10, (1, len(DATA))))
    best = Taken(np.ones((rows, len(DATA))), np.full((rows, len(DATA)), 10.0))

    score, cost = tuned(bench, outcomes, best, 0.8)

    least = steps[steps >= 0.8].min()
    assert set(score) == {least} and set(cost) == {least * 10}


def test_halves_never_divide_a_question() -> None:
    groups = np.repeat(np.arange(50), 3)

    first = first_half(groups)

    assert first.sum() == 75
    assert all(len(set(first[groups == one])) == 1 for one in range(50))


def test_the_frontier_keeps_what_nothing_beats_in_both() -> None:
    points = np.array([[1.0, 0.3], [2.0, 0.2], [3.0, 0.9], [3.0, 0.8], [4.0, 0.9]])

    assert frontier(points).tolist() == [[1.0, 0.3], [3.0, 0.9]]


def test_the_distance_to_the_frontier_is_in_units_of_its_own_width() -> None:
    best = np.array([[1.0, 0.0], [100.0, 1.0]])

    assert pareto_distance(best, best) == 0
    assert pareto_distance(np.array([[100.0, 0.5]]), best) == pytest.approx(0.5)


def test_brier_looks_at_observed_pairs_only() -> None:
    assert brier(np.array([[0.5, 0.9]]), np.array([[1.0, np.nan]])) == pytest.approx(0.25)


def test_calibration_error_is_the_gap_of_forecast_and_score_weighted_by_pairs() -> None:
    quality = np.array([[0.25], [0.25], [0.85], [0.85]])
    score = np.array([[0.0], [1.0], [1.0], [1.0]])

    told_mean, true_mean, share = calibration_curve(quality, score)

    assert told_mean == pytest.approx([0.25, 0.85]) and true_mean == pytest.approx([0.5, 1.0])
    assert share == pytest.approx([0.5, 0.5])
    assert expected_calibration_error(quality, score) == pytest.approx(0.2)


def test_honest_intervals_cover_as_they_state_and_narrow_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    true = rng.uniform(0.2, 0.8, (4000, 3))
    off = np.repeat(rng.normal(0, 0.06, (100, 3)), 40, axis=0)
    quality = np.sort(true, axis=0) + off
    score = (rng.random(true.shape) < np.sort(true, axis=0)).astype(np.float64)

    honest = interval_coverage(quality, quality - 0.099, quality + 0.099, score)
    narrow = interval_coverage(quality, quality - 1e-6, quality + 1e-6, score)

    assert honest > 0.85 > narrow


def test_conformal_bounds_cover_nine_tenths_of_new_pairs() -> None:
    rng = np.random.default_rng(1)
    quality = rng.random((2000, 3))
    score = np.clip(quality + rng.normal(0, 0.2, quality.shape), 0, 1)

    assert conformal_coverage(quality, score, np.arange(2000)) == pytest.approx(0.9, abs=0.02)


def test_a_decision_is_timed_over_all_models() -> None:
    middle, slow = decision_ms(fit("mean", DATA, None, 0), DATA, decisions=20)

    assert 0 < middle <= slow
