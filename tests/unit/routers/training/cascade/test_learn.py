"""What plays teach: rounds where signals tell something, one call where they do not."""

from __future__ import annotations

import numpy as np
import pytest

from routers.cascade_value import ANSWER_FEATURES, CONTEXT
from routers.training.cascade.board import Rules
from routers.training.cascade.learn import Plan, learn, plays, weight_bounds
from routers.training.cascade.networks import Task, train_network
from routers.training.cascade.train import Arm, best_arm, halves, utilities
from tests.unit.routers.training.cascade.boards import board, hard_and_easy

PLAN = Plan(max_rounds=2, weights=3, tries=2, epochs=12)
ONE_CALL = Arm(1, 0.0, 0.0)


def test_a_telling_length_is_worth_a_look_at_the_cheap_answer() -> None:
    learned, unseen = learn(hard_and_easy(1_500, 0, tell=3.0), PLAN, 0), hard_and_easy(1_500, 1, tell=3.0)
    weights = np.geomspace(5, 30, 6)  # the dear call costs 0.1 to 0.6 of a score

    gain = utilities(Arm(2, 1.0, 0.0), learned, unseen, weights) - utilities(ONE_CALL, learned, unseen, weights)

    assert gain.mean() > 4 * gain.std() / len(gain) ** 0.5
    assert 1.1 < plays(learned, unseen, 15.0, Rules(2)).calls.mean() < 1.7


def test_rounds_are_used_only_where_they_surely_pay() -> None:
    telling, silent = hard_and_easy(800, 0, tell=3.0), hard_and_easy(800, 0, tell=0.0)
    parts = halves(np.arange(800), 0)

    used, figures = best_arm(telling, parts, PLAN, 0)
    left, _ = best_arm(silent, parts, PLAN, 0)

    assert used.rounds == 2 and figures["gain_over_one_call"] > figures["standard_error"]
    assert left.rounds == 1


def test_the_same_seed_teaches_the_same() -> None:
    one, two, other = (learn(hard_and_easy(200, 0, tell=2.0), PLAN, seed) for seed in (5, 5, 6))

    assert np.array_equal(one.answers.weights, two.answers.weights)
    assert np.array_equal(one.gains[0].out, two.gains[0].out)
    assert not np.array_equal(one.answers.weights, other.answers.weights)


def test_weights_of_cost_span_what_matters_for_the_models_at_hand() -> None:
    low, high = weight_bounds(np.array([[0.001, 0.1]] * 3))

    assert (low, high) == pytest.approx((0.03, 2000))
    assert weight_bounds(np.zeros((2, 2))) == (1.0, 1.0)


def test_a_question_s_rows_are_on_one_side() -> None:
    groups = np.array([0, 1, 1, 2, 2, 2, 3])

    one, other = halves(groups, 0)

    assert not set(groups[one]) & set(groups[other]) and len(one) + len(other) == 7


def test_a_network_that_learns_nothing_new_says_nothing() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(600, ANSWER_FEATURES + CONTEXT)).astype(np.float32)
    noise = rng.normal(size=600).astype(np.float32)

    made = train_network(Task(features, np.zeros(600, np.float32), noise, np.arange(600), "mse"), epochs=5)

    said = made(features[None, :, :ANSWER_FEATURES], np.zeros((1, CONTEXT), np.float32))
    assert np.abs(said).max() < 0.5


def test_what_never_varied_in_training_has_no_say() -> None:
    rng = np.random.default_rng(0)
    features = np.ones((400, ANSWER_FEATURES + CONTEXT), dtype=np.float32)
    features[:, 0] = rng.normal(size=400)
    task = Task(features, np.zeros(400, np.float32), features[:, 0] + 1, np.arange(400), "mse")

    made = train_network(task, epochs=30)

    assert not made.weights[1:].any() and not made.contextual.any() and made.weights[0].any()
    plain = features[None, :, :ANSWER_FEATURES]
    said = made(plain, np.zeros((1, CONTEXT), np.float32))
    assert np.corrcoef(said[0], features[:, 0])[0, 1] > 0.9


def test_boards_with_gaps_can_be_learned_from() -> None:
    rng = np.random.default_rng(0)
    score = np.where(rng.random((60, 3)) < 0.5, rng.integers(0, 2, (60, 3)), np.nan)
    score[:, 0] = 1.0
    gappy = board(score.tolist(), [[0.1, 0.2, 0.3]] * 60, quality=[[0.5, 0.6, 0.7]] * 60)

    played = plays(learn(gappy, PLAN, 0), gappy, 1.0, Rules(3, -1.0))

    assert np.isfinite(played.score).all() and (played.calls <= (~np.isnan(score)).sum(axis=1)).all()
