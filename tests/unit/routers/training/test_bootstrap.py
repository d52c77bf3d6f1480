"""How sure differences are: questions are drawn together, in all splits alike."""

from __future__ import annotations

import numpy as np
import pytest

from routers.training.bootstrap import curves, differences, resample
from routers.training.choices import Taken


def test_rows_of_one_question_are_drawn_together_in_every_split() -> None:
    first, second = resample([np.array([7, 7, 9, 4]), np.array([9, 7, 5])], 0, 50)

    assert np.array_equal(first[:, 0], first[:, 1])
    seven, nine = first[:, 0] / first[:, 0].clip(1e-9), first[:, 2] / first[:, 2].clip(1e-9)
    assert np.array_equal(seven > 0, second[:, 1] > 0) and np.array_equal(nine > 0, second[:, 0] > 0)
    assert first.sum(axis=1) == pytest.approx(np.ones(50))


def test_the_same_seed_draws_the_same() -> None:
    groups = [np.arange(20)]

    assert np.array_equal(resample(groups, 1, 10)[0], resample(groups, 1, 10)[0])
    assert not np.array_equal(resample(groups, 1, 10)[0], resample(groups, 2, 10)[0])


def test_resampled_curves_keep_the_digits_of_tiny_costs() -> None:
    took = Taken(np.full((3, 40), 0.5), np.full((3, 40), 3.21e-7))

    cost, score = curves(took, resample([np.arange(40)], 0, 5)[0])

    assert cost == pytest.approx(np.full((5, 3), 3.21e-7), rel=1e-5)
    assert score == pytest.approx(np.full((5, 3), 0.5))


def test_intervals_shrink_as_the_root_of_the_questions_and_hold_the_truth_nineteen_times_of_twenty() -> None:
    rng = np.random.default_rng(0)
    hits, widths = [], {}
    for size in (100, 400):
        for repeat in range(100):
            gap = rng.normal(0.1, 1, size)
            weights = resample([np.arange(size)], repeat, 300)[0]
            ours, theirs = [{"m": weights @ gap}], [{"m": np.zeros(300)}]
            found = differences(ours, theirs, {"m": float(gap.mean())})["m"]
            hits.append(found.low <= 0.1 <= found.high)
            widths[size] = found.high - found.low

    assert 0.9 <= np.mean(hits) <= 0.985
    assert widths[100] / widths[400] == pytest.approx(2, rel=0.4)


def test_a_difference_is_significant_when_its_interval_leaves_out_nothing() -> None:
    drawn = [{"m": np.linspace(0.1, 0.3, 100)}]
    zero = [{"m": np.zeros(100)}]

    assert differences(drawn, zero, {"m": 0.2})["m"].significant
    around = [{"m": np.linspace(-0.1, 0.12, 100)}]
    assert not differences(around, zero, {"m": 0.01})["m"].significant


def test_bias_that_resampling_shows_is_taken_out_of_the_measured_difference_too() -> None:
    # Resampled, the metric lies .05 above what was measured; so was what was measured above the truth.
    drawn, zero = [{"m": 0.25 + np.linspace(-0.1, 0.1, 101)}], [{"m": np.zeros(101)}]

    found = differences(drawn, zero, {"m": 0.2})["m"]

    assert found.corrected == pytest.approx(0.15)
    assert (found.low, found.high) == pytest.approx((0.15 - 0.095, 0.15 + 0.095))


def test_the_longer_tail_lies_on_the_other_side_of_the_truth() -> None:
    drawn, zero = [{"m": np.random.default_rng(0).exponential(1, 5000)}], [{"m": np.zeros(5000)}]

    found = differences(drawn, zero, {"m": 1.0})["m"]

    assert found.mean - found.low > 2 * (found.high - found.mean) > 0
