"""Risk control: what the bounds allow, and that stated rates of violation hold where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from routers.training.risk import (
    Bound,
    betting_bound,
    controlled,
    exact_bound,
    normal_bound,
    thrifty_path,
)

BOUNDS = [exact_bound, betting_bound]


def losses(rows: int, worse: float, better: float, seed: int) -> np.ndarray:
    """Losses of -1, 0 and 1 with given probabilities of the latter and the former."""
    point = np.random.default_rng(seed).random(rows)
    return np.where(point < worse, 1.0, np.where(point < worse + better, -1.0, 0.0))


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(("worse", "better"), [(0.03, 0.0), (0.13, 0.1), (0.4, 0.37)])
def test_a_mean_just_above_the_tolerance_is_accepted_at_most_as_often_as_stated(
    bound: Bound, worse: float, better: float
) -> None:
    wrong = sum(bound(losses(300, worse, better, seed), 0.0299, 0.1, None) for seed in range(300))
    # Ten per cent of 300, and three standard deviations of a binomial.
    assert wrong <= 30 + 3 * np.sqrt(27)


@pytest.mark.parametrize("bound", BOUNDS)
def test_the_mean_of_the_rows_to_come_keeps_its_bound_too(bound: Bound) -> None:
    wrong = 0
    for seed in range(300):
        rows = losses(400, 0.1, 0.07, seed)
        wrong += bound(rows[:200], 0.03, 0.1, 200) and rows[200:].mean() > 0.03
    assert wrong <= 30 + 3 * np.sqrt(27)


@pytest.mark.parametrize("bound", [*BOUNDS, normal_bound])
def test_a_mean_far_below_the_tolerance_is_accepted(bound: Bound) -> None:
    assert bound(losses(1000, 0.05, 0.05, 1), 0.1, 0.1, None)
    assert bound(losses(1000, 0.05, 0.05, 1), 0.1, 0.1, 1000)
    assert not bound(losses(1000, 0.2, 0.02, 1), 0.1, 0.1, None)


def test_the_exact_bound_accepts_more_often_than_the_betting_one() -> None:
    told = [[bound(losses(500, 0.05, 0.05, seed), 0.025, 0.1, None) for seed in range(60)] for bound in BOUNDS]
    assert sum(told[0]) > sum(told[1])


def test_no_loss_at_all_is_accepted_only_with_rows_enough() -> None:
    assert not exact_bound(np.zeros(20), 0.05, 0.1)
    assert exact_bound(np.zeros(200), 0.05, 0.1)
    assert not normal_bound(np.full(20, 0.2), 0.05, 0.1)


def test_scores_between_0_and_1_are_judged_by_betting() -> None:
    rows = np.random.default_rng(2).normal(0, 0.1, 400).clip(-1, 1)
    assert exact_bound(rows, 0.05, 0.1) == betting_bound(rows, 0.05, 0.1)


def test_the_last_rule_before_the_first_failure_is_taken() -> None:
    fine, bad = np.zeros(400), np.ones(400)
    assert controlled(np.array([fine, fine, bad, fine]), 0.05, 0.1) == 1
    assert controlled(np.array([bad, fine]), 0.05, 0.1) == -1
    assert controlled(np.array([fine, fine]), 0.05, 0.1) == 1


def test_a_path_leaves_the_reference_for_cheaper_models_only_and_ever_more_of_them() -> None:
    rng = np.random.default_rng(4)
    quality, cost = rng.random((200, 4)), np.tile([0.1, 1.0, 5.0, 9.0], (200, 1))
    path = thrifty_path(quality, cost, 2)
    assert set(np.unique(path)) <= {0, 1, 2}
    spent = np.take_along_axis(cost, path.T, 1).mean(axis=0)
    assert spent[-1] < spent[0] and (np.diff(spent) < 0.3).all()


def test_a_path_prefers_models_whose_scores_are_the_same_as_the_references() -> None:
    quality = np.tile([0.5, 0.95, 0.95], (50, 1))
    quality[25:, 0] = 0.9
    first = thrifty_path(quality, np.tile([1.0, 5.0, 9.0], (50, 1)), 2)[0]
    assert (first == 2).all()


def test_control_on_a_path_keeps_the_stated_rate_and_saves() -> None:
    rng = np.random.default_rng(5)
    easy = rng.random(600)
    quality = np.column_stack([easy, np.clip(easy + 0.25, 0, 0.97)])
    cost = np.tile([1.0, 10.0], (600, 1))
    path = thrifty_path(quality, cost, 1, steps=12)
    broken, saved = 0, []
    for seed in range(40):
        score = (np.random.default_rng(seed).random(quality.shape) < quality).astype(float)
        loss = score[None, :, 1] - np.take_along_axis(score, path.T, 1).T
        place = controlled(loss[:, :300], 0.06, 0.1, horizon=300)
        if place >= 0:
            broken += loss[place, 300:].mean() > 0.06
            saved.append(1 - np.take_along_axis(cost, path[[place]].T, 1)[300:].mean() / 10)
    assert broken <= 4 + 3 * np.sqrt(3.6)
    assert np.mean(saved) > 0.02
