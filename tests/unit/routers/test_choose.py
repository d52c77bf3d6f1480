"""Choosing: what wins, how ties and endpoints share, and that every propensity is true."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.schema import Objective, Policy
from routers.choose import SAME_MODEL_TOLERANCE, choose
from routers.decision import Candidate, Decision, Forecast
from tests.unit.routers.candidates import candidate, forecast, query

SEED = 7
Pool = list[tuple[Candidate, Forecast]]


def policy(quality: float = 1.0, cost: float = 0.0, latency: float = 0.0, exploration: float = 0.0) -> Policy:
    objective = Objective(quality=quality, cost=cost, latency=latency)
    return Policy(schema=1, name="p", objective=objective, exploration=exploration)


def decide(pool: Pool, under: Policy, seed: int = SEED) -> Decision:
    candidates, forecasts = zip(*pool, strict=True)
    return choose(under, "rules", query(), candidates, forecasts, "Because.", random.Random(seed))


def pair(
    of: Candidate, quality: float, output_tokens: int = 100, latency_ms: float = 1000.0
) -> tuple[Candidate, Forecast]:
    return of, forecast(of, quality, output_tokens, latency_ms)


PRICES = st.one_of(st.none(), st.just(0.0), st.floats(0.001, 100))
QUALITIES = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1))
WEIGHTS = st.floats(0.001, 1000)


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """Up to eight endpoints of up to four models; endpoints of one model share card and forecast length."""
    made: Pool = []
    for model in range(draw(st.integers(1, 4))):
        price, quality, tokens = draw(PRICES), draw(QUALITIES), draw(st.integers(1, 5000))
        for place in range(draw(st.integers(1, 2))):
            one = candidate(f"m{model}", f"m{model}-{place}", price=price, weight=draw(WEIGHTS))
            made.append(pair(one, quality, tokens, draw(st.floats(0, 1e5))))
    return made


POLICIES = st.builds(
    policy,
    quality=st.floats(0.01, 1000),
    cost=st.sampled_from([0.0, 0.1, 3.0, 1000.0]),
    latency=st.sampled_from([0.0, 0.1, 1000.0]),
    exploration=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
)


def effective_cost(decision: Decision) -> int:
    """Cost of the chosen one, a model of unknown price counting as the dearest of the pool."""
    chosen = decision.chosen
    if chosen.candidate.card.priced:
        return chosen.cost_nanousd
    return max(ranked.cost_nanousd for ranked in decision.ranking)


@settings(deadline=None)
@given(pools(), POLICIES, st.integers(0, 2**32))
def test_propensities_are_probabilities_and_everything_is_finite(pool: Pool, under: Policy, seed: int) -> None:
    decision = decide(pool, under, seed)
    shares = [ranked.propensity for ranked in decision.ranking]
    assert math.isclose(sum(shares), 1.0, abs_tol=1e-9) and all(0 <= share <= 1 for share in shares)
    assert decision.chosen.propensity > 0
    assert all(math.isfinite(ranked.score) for ranked in decision.ranking)
    assert Counter(one.endpoint.id for one, _ in pool) == Counter(r.candidate.endpoint.id for r in decision.ranking)


@settings(deadline=None)
@given(pools(), POLICIES, st.integers(0, 2**32))
def test_the_rest_of_the_ranking_is_in_order_of_score(pool: Pool, under: Policy, seed: int) -> None:
    rest = [ranked.score for ranked in decide(pool, under, seed).ranking[1:]]
    assert rest == sorted(rest, reverse=True)


@settings(deadline=None)
@given(pools(), POLICIES, st.integers(0, 2**32))
def test_the_same_random_numbers_give_the_same_decision(pool: Pool, under: Policy, seed: int) -> None:
    assert decide(pool, under, seed) == decide(pool, under, seed)


@settings(deadline=None, max_examples=20)
@given(pools(), POLICIES)
def test_candidates_are_drawn_as_often_as_their_propensity_says(pool: Pool, under: Policy) -> None:
    draws = 2000
    said = {ranked.candidate.endpoint.id: ranked.propensity for ranked in decide(pool, under).ranking}
    seen = Counter(decide(pool, under, seed).chosen.candidate.endpoint.id for seed in range(draws))
    for endpoint, share in said.items():
        # Five standard deviations, and one draw for rounding.
        assert abs(seen[endpoint] - draws * share) <= 5 * math.sqrt(draws * share * (1 - share)) + 1


@settings(deadline=None)
@given(pools(), st.floats(0, 1000), st.floats(0, 1000), st.integers(0, 100))
def test_more_weight_on_cost_never_buys_a_dearer_call(pool: Pool, one: float, other: float, seed: int) -> None:
    low, high = sorted((one, other))
    before, after = decide(pool, policy(cost=low), seed), decide(pool, policy(cost=high), seed)
    # Scores a rounding error apart may count as a tie under one weight and not under the other.
    if min(_gap(before), _gap(after)) > 1e-9:
        assert effective_cost(after) <= effective_cost(before)


def _gap(decision: Decision) -> float:
    """How far the best score is from that of the best other model."""
    models = {ranked.candidate.card.id: ranked.score for ranked in reversed(decision.ranking)}
    scores = sorted(models.values(), reverse=True)
    return scores[0] - scores[1] if len(scores) > 1 else math.inf


def test_a_single_candidate_is_certain() -> None:
    decision = decide([pair(candidate("m"), 0.3)], policy(exploration=0.5))
    assert decision.chosen.propensity == 1.0
    assert decision.reason == "Because. 'm' at 'm-endpoint' is the only candidate."


def test_without_candidates_or_with_too_few_forecasts_nothing_is_chosen() -> None:
    one = candidate("m")
    with pytest.raises(ValueError, match="no candidate"):
        choose(policy(), "rules", query(), [], [], "", random.Random(SEED))
    with pytest.raises(ValueError, match="1 candidates but 0 forecasts"):
        choose(policy(), "rules", query(), [one], [], "", random.Random(SEED))


def test_the_score_is_quality_less_cost_less_latency() -> None:
    one = candidate("m", price=10.0)
    under = policy(quality=2.0, cost=0.5, latency=0.1)
    ranked = decide([pair(one, 0.8, output_tokens=100, latency_ms=2500)], under).chosen
    assert ranked.cost_nanousd == 2_000_000  # 200 tokens at 10 USD per million
    assert ranked.cost_high_nanousd == 3_000_000
    assert ranked.score == pytest.approx(2 * 0.8 - 0.5 * 0.002 / 0.01 - 0.1 * 0.5)


def test_endpoints_of_the_best_model_share_by_weight() -> None:
    pool = [
        pair(candidate("m", "first", weight=3.0), 0.9),
        pair(candidate("m", "second", weight=1.0), 0.9, latency_ms=1010.0),
        pair(candidate("other"), 0.8),
    ]
    shares = {r.candidate.endpoint.id: r.propensity for r in decide(pool, policy(latency=0.1)).ranking}
    assert shares == {"first": 0.75, "second": 0.25, "other-endpoint": 0.0}


def test_an_endpoint_of_the_best_model_that_is_much_slower_gets_nothing() -> None:
    slow_ms = 1000.0 + 1.1 * SAME_MODEL_TOLERANCE * 5000
    pool = [pair(candidate("m", "fast"), 0.9), pair(candidate("m", "slow"), 0.9, latency_ms=slow_ms)]
    assert decide(pool, policy(latency=1.0)).chosen.propensity == 1.0


def test_other_models_near_the_best_get_nothing_unless_they_tie_exactly() -> None:
    near = [pair(candidate("a"), 0.9), pair(candidate("b"), 0.9 - SAME_MODEL_TOLERANCE / 2)]
    tie = [pair(candidate("a", weight=1.0), 0.9), pair(candidate("b", weight=4.0), 0.9)]
    assert [ranked.propensity for ranked in decide(near, policy()).ranking] == [1.0, 0.0]
    assert {r.candidate.card.id: r.propensity for r in decide(tie, policy()).ranking} == {"a": 0.2, "b": 0.8}


def test_exploration_spreads_over_the_others_alike() -> None:
    pool = [pair(candidate("best"), 0.9), pair(candidate("b"), 0.2), pair(candidate("c"), 0.1)]
    shares = {r.candidate.card.id: r.propensity for r in decide(pool, policy(exploration=0.1)).ranking}
    assert shares == pytest.approx({"best": 0.9, "b": 0.05, "c": 0.05})


def test_an_explored_candidate_comes_first_and_the_reason_says_so() -> None:
    pool = [pair(candidate("best"), 0.9), pair(candidate("b"), 0.2), pair(candidate("c"), 0.1)]
    decision = next(d for seed in range(999) if (d := decide(pool, policy(exploration=0.1), seed)).chosen.score < 0.9)
    assert [ranked.candidate.card.id for ranked in decision.ranking][1] == "best"
    assert "is tried in place of 'best' at 'best-endpoint' (0.900), as the policy explores" in decision.reason


def test_an_unknown_price_counts_as_the_dearest_known_one_and_is_logged_as_unknown() -> None:
    pool = [pair(candidate("cheap", price=1.0), 0.5), pair(candidate("dear", price=50.0), 0.8)]
    unknown = pair(candidate("unknown", price=None), 0.8)
    ranking = {r.candidate.card.id: r for r in decide([*pool, unknown], policy(cost=1.0)).ranking}
    assert ranking["unknown"].score == ranking["dear"].score < ranking["cheap"].score
    assert ranking["unknown"].cost_nanousd == 0


def test_forecasts_that_are_no_numbers_come_last_instead_of_breaking() -> None:
    pool = [
        pair(candidate("broken"), math.nan, latency_ms=math.inf),
        pair(candidate("sound"), 0.1),
    ]
    decision = decide(pool, policy(latency=1.0))
    assert decision.chosen.candidate.card.id == "sound"
    assert all(math.isfinite(ranked.score) for ranked in decision.ranking)


def test_scores_stay_finite_under_scales_that_overflow() -> None:
    objective = Objective(quality=1, cost=1000, latency=1000, cost_scale_usd=1e-320, latency_scale_ms=1e-320)
    pool = [pair(candidate("a", price=100.0), 0.9), pair(candidate("b", price=0.0), 0.2, latency_ms=0.0)]
    decision = decide(pool, Policy(schema=1, name="p", objective=objective))
    assert decision.chosen.candidate.card.id == "b"
    assert all(math.isfinite(ranked.score) for ranked in decision.ranking)


def test_the_reason_tells_rule_scores_and_runner_up() -> None:
    pool = [pair(candidate("a"), 0.9), pair(candidate("b"), 0.2)]
    expected = "Because. 'a' at 'a-endpoint' scored 0.900, ahead of 'b' at 'b-endpoint' with 0.200."
    assert decide(pool, policy()).reason == expected


def test_a_decision_carries_policy_artifact_and_who_was_left_out() -> None:
    one = candidate("m")
    under = policy()
    rng = random.Random(SEED)
    decision = choose(under, "rules", query(), [one], [forecast(one, 0.5)], "", rng, "abc", {"x": "too small"})
    assert (decision.policy_name, decision.policy_sha256) == ("p", under.sha256())
    assert (decision.router_kind, decision.artifact_sha256) == ("rules", "abc")
    assert decision.excluded == {"x": "too small"}
