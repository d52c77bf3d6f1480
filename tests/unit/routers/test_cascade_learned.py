"""The trained cascade as it serves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routers.cascade_learned import LearnedCascade, Projection, projection_of
from routers.cascade_policy import COMPARABLE, REFUSAL, VERIFIER, Step
from routers.cascade_value import (
    ACTION_FEATURES,
    ANSWER_FEATURES,
    CONTEXT,
    PROJECTIONS,
    CascadeValue,
    length_signal,
    length_signal_of,
    no_network,
)
from routers.decision import Forecast
from tests.unit.routers.candidates import candidate, forecast, query

POOL = [candidate("dear", price=50.0), candidate("cheap", price=0.1), candidate("middle", price=2.0)]
TOLD = [forecast(one, quality) for one, quality in zip(POOL, (0.9, 0.4, 0.7), strict=True)]
NO_PROJECTION = Projection(np.zeros(4, np.float32), np.zeros((4, PROJECTIONS), np.float32))
NO_GAINS = CascadeValue(no_network(ANSWER_FEATURES), (no_network(ACTION_FEATURES),) * 3, (1.0,) * 3)
PLAIN = LearnedCascade(NO_GAINS, NO_PROJECTION)


def step(model: str, **signals: float) -> Step:
    return Step(model, 1_000, 100, signals)


def weight(price: float, share: float) -> float:
    """The weight of cost at which a call (200 tokens) at this price is worth this share of a score."""
    return share / (price * 200 / 1e6)


def test_it_begins_with_the_best_score_less_price() -> None:
    assert PLAIN.next(query(), POOL, TOLD, [], 0.0, None).model == "dear"
    assert PLAIN.next(query(), POOL, TOLD, [], weight(50.0, 0.5), None).model == "middle"
    assert PLAIN.next(query(), POOL, TOLD, [], weight(2.0, 0.5), None).model == "cheap"


def test_a_refused_answer_is_worth_another_call() -> None:
    told = weight(50.0, 0.8)

    plain = PLAIN.next(query(), POOL, TOLD, [step("middle")], told, None)
    refused = PLAIN.next(query(), POOL, TOLD, [step("middle", **{REFUSAL: 1.0})], told, None)

    assert (plain.action, plain.model) == ("stop", "middle")
    assert (refused.action, refused.model) == ("call", "cheap")


def test_where_rounds_did_not_pay_only_news_makes_another_call() -> None:
    careful = replace(PLAIN, rounds=1)

    assert careful.next(query(), POOL, TOLD, [step("cheap")], 0.0, None).action == "stop"
    assert careful.next(query(), POOL, TOLD, [step("cheap", **{VERIFIER: 0.1})], 0.0, None).model == "dear"


def test_a_verifier_that_the_networks_do_not_know_counts_half() -> None:
    value = PLAIN.next(query(), POOL, TOLD, [step("dear", **{VERIFIER: 0.5})], 1e9, None).value

    assert value == pytest.approx(0.75)  # the odds of 0.9 are 9, of 0.5 are 1: 3 lies between


def test_a_hint_that_the_networks_know_is_left_to_them() -> None:
    knowing = replace(PLAIN, learned_hints=(True, False, False))

    assert knowing.next(query(), POOL, TOLD, [step("dear", **{VERIFIER: 0.5})], 1e9, None).value == pytest.approx(0.9)


def test_a_margin_keeps_from_calling_for_little() -> None:
    made = [step("middle")]

    assert PLAIN.next(query(), POOL, TOLD, made, 0.0, None).model == "dear"
    assert replace(PLAIN, margin=0.3).next(query(), POOL, TOLD, made, 0.0, None).action == "stop"


def test_a_vote_is_taken_where_a_majority_is_surer_than_any_answer() -> None:
    told = [forecast(one, 0.7) for one in POOL]
    made = [step(one.card.id, **{COMPARABLE: 1.0}) for one in POOL]

    verdict = PLAIN.next(query(), POOL, told, made, 0.0, None)

    assert verdict.action == "vote" and verdict.value == pytest.approx(0.784)


def test_the_last_answer_is_given_when_its_model_is_no_candidate_any_more() -> None:
    verdict = PLAIN.next(query(), POOL, TOLD, [step("gone")], 0.0, None)

    assert (verdict.action, verdict.model) == ("stop", "gone")


def test_a_model_with_two_endpoints_is_called_once() -> None:
    pool = [candidate("one", "here"), candidate("one", "there")]
    told = [forecast(one, 0.5) for one in pool]

    assert PLAIN.next(query(), pool, told, [step("one", **{REFUSAL: 1.0})], 0.0, None).action == "stop"


def test_the_length_of_one_answer_is_read_as_that_of_many() -> None:
    one = length_signal_of(300, 100, 250)
    many = length_signal(*(np.array([count], dtype=np.float32) for count in (300, 100, 250)))

    assert one == pytest.approx(float(many[0]), rel=1e-6)
    assert length_signal_of(100, 100, 100) == 0


def test_a_query_without_embedding_lies_at_the_centre() -> None:
    rng = np.random.default_rng(0)
    projection = projection_of(rng.normal(size=(50, 6)).astype(np.float32))
    ones = np.ones(1, dtype=np.float32)

    context = projection.context(np.zeros((1, 6), np.float32), ones, ones, ones, ones)

    assert context.shape == (1, CONTEXT) and not context[0, :PROJECTIONS].any()


def test_fewer_directions_than_places_leave_the_rest_empty() -> None:
    projection = projection_of(np.eye(3, dtype=np.float32))

    assert projection.directions.shape == (3, PROJECTIONS) and not projection.directions[:, 3:].any()


def test_a_longer_answer_is_doubted_where_the_networks_say_so() -> None:
    answers = no_network(ANSWER_FEATURES)
    weights = answers.weights.copy()
    weights[3, 0] = 1.0  # the answer's own length
    value = replace(NO_GAINS, answers=replace(answers, weights=weights, out=np.array([-1.0], np.float32)))
    doubting = replace(PLAIN, value=value)
    told: list[Forecast] = TOLD

    values = [
        doubting.next(query(), POOL, told, [Step("dear", 1, tokens, {})], 1e9, None).value for tokens in (50, 100, 400)
    ]

    assert values[0] > values[1] > values[2] and values[1] == pytest.approx(0.9)
