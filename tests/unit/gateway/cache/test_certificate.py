"""Exact bounds, and what they allow."""

import numpy as np
import pytest

from gateway.cache.certificate import Tally, certify
from routers.training.risk import share_bound


@pytest.mark.parametrize(
    ("wrong", "trials", "delta", "bound"),
    [(0, 300, 0.05, 0.009936), (3, 100, 0.05, 0.075706), (0, 10, 0.01, 0.369043), (5, 5, 0.05, 1.0), (0, 0, 0.05, 1.0)],
)
def test_the_bound_is_clopper_and_pearsons(wrong: int, trials: int, delta: float, bound: float) -> None:
    assert share_bound(wrong, trials, delta) == pytest.approx(bound, abs=1e-5)


def test_the_bound_fails_no_oftener_than_it_says() -> None:
    drawn = np.random.default_rng(0).binomial(400, 0.05, size=2000).tolist()

    missed = sum(1 for wrong in drawn if share_bound(wrong, 400, 0.05) < 0.05)

    assert missed / 2000 <= 0.06


def test_the_loosest_setting_that_the_bound_allows_is_taken() -> None:
    grid = {0.8: Tally(5000, 1000, 90), 0.9: Tally(5000, 800, 12), 0.95: Tally(5000, 600, 3)}

    made = certify(grid, 0.05)

    assert made.threshold == 0.9
    assert made.bound == pytest.approx(share_bound(12, 800, 0.05 / 3))


def test_without_enough_evidence_nothing_is_certified() -> None:
    assert certify({0.9: Tally(100, 20, 0)}, 0.01).threshold is None


def test_wrong_hits_may_be_counted_against_requests() -> None:
    grid = {0.8: Tally(5000, 500, 20)}

    assert certify(grid, 0.01).threshold is None
    assert certify(grid, 0.01, of_requests=True).threshold == 0.8


def test_more_wrong_than_trials_is_an_error() -> None:
    with pytest.raises(ValueError, match="3 of 2"):
        share_bound(3, 2, 0.05)
