"""The baselines play as their names say."""

from __future__ import annotations

import numpy as np
import pytest

from routers.training.cascade.baselines import FixedOrder, FixedOrders, Vote, Votes, one_call
from tests.unit.routers.training.cascade.boards import board

MANY = 400


def test_one_call_follows_the_forecasts() -> None:
    two = board([[0, 1], [1, 0]], [[0.1, 0.2], [0.1, 0.2]], quality=[[0.2, 0.9], [0.5, 0.6]])

    score, paid = one_call(two, 2.0)

    assert score.tolist() == [1, 1] and paid.tolist() == [0.2, 0.1]


def test_a_fixed_order_pays_for_every_look() -> None:
    two = board([[0, 1], [1, 1]], [[0.1, 0.9]] * 2)
    sure = np.array([[0.2, 0.5], [0.8, 0.5]], dtype=np.float32)

    score, paid = FixedOrder((0, 1), (0.5,)).apply(two, sure)

    assert score.tolist() == [1, 1] and paid.tolist() == pytest.approx([1.0, 0.1])


def test_a_sure_sign_makes_an_order_of_cheap_and_dear() -> None:
    easy = np.arange(MANY) % 2
    two = board(np.stack((easy, np.ones(MANY)), 1).tolist(), [[0.01, 0.3]] * MANY)
    sure = np.stack((np.where(easy, 0.9, 0.1) + np.linspace(0, 0.01, MANY), np.ones(MANY)), 1).astype(np.float32)

    found = FixedOrders(two, sure).best(1.0)

    assert found.models == (0, 1) and 0.11 < found.cuts[0] <= 0.91
    assert found.apply(two, sure)[0].mean() == 1


def test_without_a_sign_one_model_is_the_order() -> None:
    rng = np.random.default_rng(1)
    two = board(np.stack((rng.integers(0, 2, MANY), np.ones(MANY)), 1).tolist(), [[0.01, 0.02]] * MANY)

    assert FixedOrders(two, np.full((MANY, 2), 0.5, dtype=np.float32)).best(1.0).models == (1,)


def test_three_models_are_used_where_two_signs_are_sure() -> None:
    kind = np.arange(3 * MANY) % 3
    score = np.stack((kind == 0, kind <= 1, np.ones(len(kind))), 1).astype(np.float32)
    three = board(score.tolist(), [[0.01, 0.1, 0.5]] * len(kind))

    found = FixedOrders(three, score).best(1.0)

    assert found.models == (0, 1, 2)
    assert found.apply(three, score)[0].mean() == 1


def test_a_vote_ends_when_both_are_right() -> None:
    three = board([[1, 1, 0], [1, 0, 1], [0, 0, 1]], [[1, 2, 4]] * 3)

    score, paid = Vote((0, 1, 2)).apply(three)

    assert score.tolist() == [1, 1, 0] and paid.tolist() == [3, 7, 7]


def test_models_that_err_apart_are_voted_and_one_that_does_not_err_is_asked_alone() -> None:
    apart = np.ones((90, 4))
    for model in range(3):
        apart[model::3, model] = 0
    apart[::2, 3] = 0
    even = board(apart.tolist(), [[0.1, 0.1, 0.1, 0.01]] * 90)

    assert Votes.on(even).best(0.0).models == (0, 1, 2)
    assert Votes.on(even).best(100.0).models == (3,)


def test_what_is_told_of_votes_is_what_they_are_worth() -> None:
    rng = np.random.default_rng(0)
    many = board(rng.integers(0, 2, (50, 4)).tolist(), rng.random((50, 4)).tolist())
    votes = Votes.on(many)

    for row in (0, 5, len(votes.models) - 1):
        score, paid = Vote(tuple(votes.models[row].tolist())).apply(many)
        assert (score.mean(), paid.mean()) == pytest.approx((votes.score[row], votes.paid_usd[row]))
