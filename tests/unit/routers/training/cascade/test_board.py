"""The simulator charges every call and shows only what was called."""

from __future__ import annotations

import numpy as np
import pytest

from routers.cascade_value import ACTION_FEATURES, ANSWER_FEATURES, CascadeValue, no_network
from routers.training.cascade.board import Rules, decide
from routers.training.cascade.learn import plays
from routers.training.cascade.signals import simulated_verifier
from tests.unit.routers.training.cascade.boards import board

PLAIN = CascadeValue(no_network(ANSWER_FEATURES), (no_network(ACTION_FEATURES),) * 3, (0.0,) * 3)
SMALL = board([[0, 1], [1, 1]], [[0.001, 0.01], [0.002, 0.02]], quality=[[0.5, 0.9], [0.5, 0.9]])


def test_nothing_of_an_answer_is_seen_before_its_call() -> None:
    queries = np.arange(2)
    SMALL.length[:] = [[1.0, 2.0], [3.0, 4.0]]

    before = SMALL.begin(queries, np.ones(2))
    after = SMALL.call(before, queries, np.array([1, 0]))

    assert np.isnan(before.length).all() and not before.called.any() and before.open.all()
    assert after.length[0, 1] == 2 and np.isnan(after.length[0, 0]) and after.length[1, 0] == 3
    assert after.called.tolist() == [[False, True], [True, False]] and (after.open == ~after.called).all()


def test_one_call_pays_for_one_call() -> None:
    played = plays(PLAIN, SMALL, 0.0, Rules(max_rounds=1))

    assert played.answer.tolist() == [1, 1] and played.calls.tolist() == [1, 1]
    assert played.paid_usd.tolist() == [0.01, 0.02] and played.score.tolist() == [1, 1]


def test_wrong_answers_are_paid_for_too() -> None:
    weight = 30.0  # the second model's call costs 0.3 and 0.6 of a score

    played = plays(PLAIN, board([[0, 1]], [[0.001, 0.01]], quality=[[0.65, 0.9]]), weight, Rules(3, margin=-0.5))

    assert played.calls.tolist() == [2] and played.score.tolist() == [1]
    assert played.paid_usd == pytest.approx([0.011])


def test_a_model_without_an_outcome_is_never_called() -> None:
    sparse = board([[0.0, float("nan")]], [[0.001, 0.01]], quality=[[0.1, 0.9]])

    played = plays(PLAIN, sparse, 0.0, Rules(3, margin=-1.0))

    assert played.answer.tolist() == [0] and played.calls.tolist() == [1]


def test_a_greater_margin_never_makes_more_calls() -> None:
    rng = np.random.default_rng(0)
    many = board(
        rng.integers(0, 2, (50, 4)).tolist(), rng.random((50, 4)).tolist(), quality=rng.random((50, 4)).tolist()
    )

    calls = [plays(PLAIN, many, 0.1, Rules(3, margin)).calls.sum() for margin in (-1.0, -0.2, 0.0, 0.2)]

    assert calls == sorted(calls, reverse=True) and calls[0] == 150


def test_the_decision_s_value_is_that_of_the_action() -> None:
    action, answer, value = decide(PLAIN, SMALL.begin(np.arange(2), np.full(2, 10.0)), Rules(3))

    assert action.tolist() == [1, 1] and answer.tolist() == [-1, -1]
    assert value.tolist() == pytest.approx([0.8, 0.7])


@pytest.mark.parametrize("auc", [0.5, 0.7, 0.9, 1.0])
def test_a_simulated_verifier_is_as_good_as_it_is_told_to_be(auc: float) -> None:
    score = np.array([[0.0, 1.0]] * 4000, dtype=np.float32)

    hints = simulated_verifier(score, auc, 0)[..., 0]

    right, wrong = hints[:, 1], hints[:, 0]
    better = (right > wrong).mean() + 0.5 * (right == wrong).mean()
    assert better == pytest.approx(auc, abs=0.03)


def test_costs_are_scaled_to_what_models_really_cost() -> None:
    dear = board([[1, 1], [1, float("nan")]], [[0.1, 0.4], [0.3, 0.4]])
    dear.forecast_usd[:] = [[0.1, 0.2], [0.1, 0.2]]

    assert dear.fairly_priced().forecast_usd.tolist() == [[0.2, 0.4], [0.2, 0.4]]
