"""Exact bounds, and what they allow."""

import numpy as np
import pytest

from gateway.cache.certificate import Tally, certify, design_effect
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


def test_hits_that_share_no_answer_are_independent() -> None:
    pairs = {(f"a{place}", f"a{place}"): 1 for place in range(95)} | {
        (f"b{place}", f"c{place}"): 1 for place in range(5)
    }

    assert design_effect(pairs) == pytest.approx(1.0, abs=0.01)
    assert design_effect({("a", "a"): 9}) == 1.0


def test_one_confusion_of_two_answers_is_one_event_however_often_it_hits() -> None:
    pairs = {(f"a{place}", f"a{place}"): 1 for place in range(80)} | {("b", "c"): 10, ("c", "b"): 10}

    effect = design_effect(pairs)

    assert effect >= 20
    assert design_effect(pairs, requests=1000) >= 20
    tally = {0.9: Tally(1000, 100, 20)}
    assert certify(tally, 0.4).threshold == 0.9
    assert certify(tally, 0.4, effects={0.9: effect}).threshold is None


def test_the_bound_by_answers_holds_where_the_binomial_one_breaks() -> None:
    rng = np.random.default_rng(0)
    plain = clustered = 0
    for _ in range(300):
        # 40 answers with 15 hits each; 5 % of the answers are always confused with another of their own.
        wrong = rng.random(40) < 0.05
        pairs = {(f"a{place}", f"b{place}" if bad else f"a{place}"): 15 for place, bad in enumerate(wrong.tolist())}
        count = 15 * int(wrong.sum())
        effect = design_effect(pairs)
        plain += share_bound(count, 600, 0.05) < 0.05
        clustered += count > 0 and share_bound(count / effect, 600 / effect, 0.05) < 0.05

    assert plain / 300 > 0.2
    assert clustered / 300 <= 0.05
