"""The cascade that needs no training, and what every cascade keeps: budget, no model twice, rounds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.cascade_learned import LearnedCascade, Projection
from routers.cascade_policy import (
    AGREEMENT,
    COMPARABLE,
    LOGPROB_MEAN,
    REFUSAL,
    TRUNCATED,
    VERIFIER,
    CascadePolicy,
    Step,
    ThresholdCascade,
    answer_score,
    options_left,
)
from routers.cascade_value import (
    ACTION_FEATURES,
    ANSWER_FEATURES,
    CONTEXT,
    PROJECTIONS,
    CascadeValue,
    Network,
)
from routers.decision import Candidate, Forecast
from tests.unit.routers.candidates import candidate, forecast, query

POOL = [candidate("dear", price=50.0), candidate("cheap", price=0.1), candidate("middle", price=2.0)]
TOLD = [forecast(one, quality) for one, quality in zip(POOL, (0.9, 0.4, 0.7), strict=True)]
THRESHOLD = ThresholdCascade(threshold=0.8)


def step(model: str, **signals: float) -> Step:
    return Step(model, 1_000, 100, signals)


def some_network(features: int, seed: int) -> Network:
    rng = np.random.default_rng(seed)
    shapes = ((features, 6), (CONTEXT, 6), (6,), (6,), (1,))
    return Network(*(rng.normal(0, 0.5, shape).astype(np.float32) for shape in shapes))


def some_learned(rounds: int = 3, margin: float = 0.0) -> LearnedCascade:
    gains = tuple(some_network(ACTION_FEATURES, seed) for seed in (1, 2, 3))
    value = CascadeValue(some_network(ANSWER_FEATURES, 0), gains, (1.0, 1.0, 1.0))
    return LearnedCascade(
        value, Projection(np.zeros(4, np.float32), np.zeros((4, PROJECTIONS), np.float32)), rounds, margin
    )


def test_the_cheapest_model_begins() -> None:
    verdict = THRESHOLD.next(query(), POOL, TOLD, [], 0.0, None)

    assert (verdict.action, verdict.model) == ("call", "cheap")


def test_a_sure_answer_is_given() -> None:
    verdict = THRESHOLD.next(query(), POOL, TOLD, [step("cheap", verifier=0.85)], 0.0, None)

    assert (verdict.action, verdict.model, verdict.value) == ("stop", "cheap", 0.85)


def test_an_unsure_answer_goes_on_to_the_next_dearer_model_that_is_better() -> None:
    verdict = THRESHOLD.next(query(), POOL, TOLD, [step("cheap", verifier=0.5)], 0.0, None)

    assert (verdict.action, verdict.model) == ("call", "middle")


def test_no_model_is_called_that_is_not_worth_its_price() -> None:
    weight = 0.3 / (2.0 * 200 / 1e6)  # the middle model's call costs 0.3 of a score

    verdict = THRESHOLD.next(query(), POOL, TOLD, [step("cheap", verifier=0.5)], weight, None)

    assert (verdict.action, verdict.model) == ("stop", "cheap")


def test_the_surest_answer_is_given_when_no_round_is_left() -> None:
    made = [step("cheap", verifier=0.5), step("middle", verifier=0.6), step("dear", verifier=0.55)]

    assert THRESHOLD.next(query(), POOL, TOLD, made, 0.0, None).model == "middle"


def test_three_answers_that_can_be_compared_are_put_to_a_vote() -> None:
    made = [step(one.card.id, **{COMPARABLE: 1.0}, **{VERIFIER: 0.5}) for one in POOL]

    assert THRESHOLD.next(query(), POOL, TOLD, made, 0.0, None).action == "vote"


def test_nothing_is_called_that_the_budget_does_not_bear() -> None:
    verdict = THRESHOLD.next(query(), POOL, TOLD, [], 0.0, 1)

    assert (verdict.action, verdict.model) == ("stop", None)


def test_calls_cost_as_much_as_their_mean_output_and_a_budget_must_bear_that_at_least() -> None:
    told = [replace(one, output_tokens_mean=900) for one in TOLD]

    costs = {one.model: one.cost_usd for one in options_left(query(), POOL, told, [], None)}

    assert costs["middle"] == pytest.approx(2e-6 * 1000)
    assert options_left(query(), POOL[2:], told[2:], [], 2_000_000 + 1)
    assert not options_left(query(), POOL[2:], told[2:], [], 1_900_000)


def test_a_model_of_unknown_price_fits_no_budget_and_else_counts_as_the_dearest() -> None:
    pool = [*POOL, candidate("unknown", price=None)]
    told = [*TOLD, forecast(pool[-1], 0.9)]

    assert "unknown" not in [one.model for one in options_left(query(), pool, told, [], 10**12)]
    costs = {one.model: one.cost_usd for one in options_left(query(), pool, told, [], None)}
    assert costs["unknown"] == costs["dear"] == max(costs.values())


@pytest.mark.parametrize(
    ("signals", "score"),
    [
        ({VERIFIER: 0.3, AGREEMENT: 0.9}, 0.3),
        ({AGREEMENT: 0.9, LOGPROB_MEAN: -3.0}, 0.9),
        ({LOGPROB_MEAN: math.log(0.5)}, 0.5),
        ({VERIFIER: math.nan}, 0.42),
        ({REFUSAL: 1.0, VERIFIER: 0.9}, 0.0),
        ({TRUNCATED: 1.0}, 0.0),
        ({}, 0.42),
    ],
)
def test_the_best_signal_that_was_observed_scores_an_answer(signals: dict[str, float], score: float) -> None:
    assert answer_score(Step("m", 1, 1, signals), 0.42) == pytest.approx(score)


SIGNALS = st.dictionaries(
    st.sampled_from([VERIFIER, AGREEMENT, LOGPROB_MEAN, REFUSAL, TRUNCATED, COMPARABLE, "another"]),
    st.floats(allow_nan=True, allow_infinity=True),
    max_size=4,
)
CANDIDATES = st.lists(
    st.builds(
        candidate,
        model=st.sampled_from(["a", "b", "c", "d"]),
        endpoint=st.uuids().map(str),
        price=st.none() | st.floats(0, 100),
    ),
    max_size=6,
)


@pytest.mark.parametrize("policy", [THRESHOLD, some_learned(), some_learned(rounds=1)])
@settings(deadline=None, max_examples=60)
@given(
    pool=CANDIDATES,
    qualities=st.lists(st.floats(0, 1), min_size=6, max_size=6),
    signals=SIGNALS,
    weight=st.floats(0, 1e300),
    budget=st.none() | st.integers(0, 10**8),
)
def test_a_request_ends_within_its_rounds_and_its_budget_whatever_is_told(
    policy: CascadePolicy,
    pool: list[Candidate],
    qualities: list[float],
    signals: dict[str, float],
    weight: float,
    budget: int | None,
) -> None:
    told = [forecast(one, quality) for one, quality in zip(pool, qualities, strict=False)]
    made: list[Step] = []
    while (verdict := policy.next(query(), pool, told, made, weight, budget)).action == "call":
        assert verdict.model is not None and verdict.model not in [one.model for one in made]
        cost = _upper_cost(verdict.model, pool, told)
        assert budget is None or cost <= budget
        budget = None if budget is None else budget - cost
        made.append(Step(verdict.model, cost, 120, signals))
    assert len(made) <= policy.max_rounds and math.isfinite(verdict.value)
    assert verdict.action == "vote" or (verdict.model in [one.model for one in made]) == bool(made)


def _upper_cost(model: str, pool: list[Candidate], told: list[Forecast]) -> int:
    card, high = next(
        (one.card, of.output_tokens_high) for one, of in zip(pool, told, strict=True) if one.card.id == model
    )
    return card.cost_nanousd(query().features.tokens, high)
