"""Floors, ceilings, what a category changes, and when the default answers instead of the forecasts' winner."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.errors import PolicyError
from policies.load import parse_policy
from policies.schema import Objective, ObjectiveChange, Policy, RouterSpec
from routers.abstention import certainty
from routers.choose import choose
from routers.decision import Candidate, Decision, Forecast
from tests.unit.routers.candidates import candidate, forecast, query

Pool = list[tuple[Candidate, Forecast]]


def policy(router: RouterSpec | None = None, exploration: float = 0.0, **objective: float) -> Policy:
    made = Objective.model_validate(objective)
    return Policy(schema=1, name="p", objective=made, router=router or RouterSpec(), exploration=exploration)


def decide(pool: Pool, under: Policy, seed: int = 1, multiplier: float = 1.0, category: str = "general") -> Decision:
    candidates, forecasts = zip(*pool, strict=True)
    asked, rng = query(category=category), random.Random(seed)
    return choose(under, "ridge", asked, candidates, forecasts, "Because.", rng, multiplier=multiplier)


def models(decision: Decision) -> list[str]:
    return [ranked.candidate.card.id for ranked in decision.ranking]


def known(
    model: str, quality: float, margin: float = 0.0, usual: float = 0.5, trust: float = 1.0, price: float = 1.0
) -> tuple[Candidate, Forecast]:
    one = candidate(model, price=price)
    told = replace(forecast(one, quality), quality_low=quality - margin, quality_high=quality + margin)
    return one, replace(told, usual_quality=usual, usual_output_tokens=100, trust=trust)


CHEAP_DEAR = [known("cheap", 0.6, price=1.0), known("dear", 0.9, price=100.0)]


def test_a_floor_puts_those_below_it_behind_all_others() -> None:
    assert models(decide(CHEAP_DEAR, policy(cost=1.0))) == ["cheap", "dear"]
    decision = decide(CHEAP_DEAR, policy(cost=1.0, min_quality=0.7))
    assert models(decision) == ["dear", "cheap"]
    assert "1 of 2 candidates break the objective's floor or ceilings." in decision.reason


def test_a_ceiling_of_cost_looks_at_the_upper_quantile_of_the_output() -> None:
    # 100 tokens in, 200 out at most, 100 USD per million: 0.03 USD.
    assert models(decide(CHEAP_DEAR, policy(max_cost_usd=0.029)))[0] == "cheap"
    assert models(decide(CHEAP_DEAR, policy(max_cost_usd=0.031)))[0] == "dear"


def test_a_ceiling_of_latency_bars_slow_candidates_and_unknown_prices_break_one_of_cost() -> None:
    slow = [(candidate("slow"), forecast(candidate("slow"), 0.9, latency_ms=3000.0)), known("fast", 0.5)]
    assert models(decide(slow, policy(max_latency_ms=2000)))[0] == "fast"
    unknown = [(candidate("free", price=None), forecast(candidate("free"), 0.9)), known("fast", 0.5)]
    assert models(decide(unknown, policy(max_cost_usd=1.0)))[0] == "fast"


def test_where_nobody_keeps_to_the_bounds_who_breaks_them_least_is_called() -> None:
    decision = decide(CHEAP_DEAR, policy(cost=1.0, min_quality=0.95))
    assert models(decision) == ["dear", "cheap"]
    assert "No candidate keeps to the objective's floor and ceilings" in decision.reason


def test_exploration_stays_within_the_bounds() -> None:
    pool = [*CHEAP_DEAR, known("middle", 0.8)]
    shares = {
        one.candidate.card.id: one.propensity for one in decide(pool, policy(exploration=0.2, min_quality=0.7)).ranking
    }
    assert shares == pytest.approx({"dear": 0.8, "middle": 0.2, "cheap": 0.0})


def test_a_category_weighs_what_it_names_differently_and_inherits_the_rest() -> None:
    text = """
        schema = 1
        name = "p"
        [objective]
        cost = 1.0
        max_latency_ms = 9000
        [[category]]
        name = "code"
        when = { code = true }
        objective = { cost = 0.0 }
    """
    under = parse_policy(text, "p.toml")
    assert models(decide(CHEAP_DEAR, under)) == ["cheap", "dear"]
    assert models(decide(CHEAP_DEAR, under, category="code")) == ["dear", "cheap"]
    assert under.objective_of("code").max_latency_ms == 9000


def test_an_objective_of_a_category_that_weighs_nothing_is_refused() -> None:
    text = """
        schema = 1
        name = "p"
        [[category]]
        name = "code"
        when = { code = true }
        [category.objective]
        quality = 0
    """
    with pytest.raises(PolicyError, match="must be above 0 in category 'code'"):
        parse_policy(text, "p.toml")


def test_a_copy_of_a_policy_has_the_objectives_of_its_own_categories() -> None:
    rule = {"name": "code", "when": {"code": True}, "objective": {"min_quality": 0.5}}
    under = Policy.model_validate({"schema": 1, "name": "p", "category": [rule]})
    assert under.objective_of("code").min_quality == 0.5
    changed = under.category[0].model_copy(update={"objective": ObjectiveChange(min_quality=0.9)})
    assert under.model_copy(update={"category": (changed,)}).objective_of("code").min_quality == 0.9


def test_a_multiplier_makes_cost_count_more_and_is_told() -> None:
    assert models(decide(CHEAP_DEAR, policy(cost=0.1)))[0] == "dear"
    decision = decide(CHEAP_DEAR, policy(cost=0.1), multiplier=4.0)
    assert (models(decision)[0], decision.budget_multiplier) == ("cheap", 4.0)
    assert "Cost counts 4.00 times, to keep the budget's pace." in decision.reason


UNSURE = [known("usual", 0.70, margin=0.1, usual=0.8), known("winner", 0.72, margin=0.1, usual=0.6)]


def test_an_advantage_that_is_not_certain_enough_leaves_the_default() -> None:
    assert models(decide(UNSURE, policy()))[0] == "winner"
    decision = decide(UNSURE, policy(RouterSpec(confidence=0.8)))
    assert models(decision) == ["usual", "winner"]
    assert decision.ranking[0].propensity == 1.0
    assert decision.reason == (
        "Because. 'winner' is ahead of 'usual' with a probability of only 59% (the policy asks 80%),"
        " so the default 'usual' answers."
    )


def test_a_certain_advantage_wins() -> None:
    sure = [known("usual", 0.5, margin=0.05, usual=0.8), known("winner", 0.9, margin=0.05, usual=0.6)]
    assert models(decide(sure, policy(RouterSpec(confidence=0.95))))[0] == "winner"


def test_the_default_is_the_named_model_where_it_is_eligible() -> None:
    pool = [*UNSURE, known("named", 0.69, margin=0.1, usual=0.1)]
    assert models(decide(pool, policy(RouterSpec(confidence=0.8, model="named"))))[0] == "named"
    assert models(decide(UNSURE, policy(RouterSpec(confidence=0.8, model="named"))))[0] == "usual"


def test_a_default_below_the_floor_is_none() -> None:
    under = policy(RouterSpec(confidence=0.99, model="usual"), min_quality=0.71)
    assert models(decide(UNSURE, under))[0] == "winner"


def test_a_query_unlike_all_that_was_learned_gets_the_default() -> None:
    far = [known("usual", 0.5, usual=0.8, trust=0.1), known("winner", 0.9, usual=0.6, trust=0.1)]
    decision = decide(far, policy(RouterSpec(min_trust=0.3)))
    assert models(decision)[0] == "usual"
    assert "unlike those the router learned from (trust 0.10, the policy asks 0.30)" in decision.reason


def test_a_router_that_tells_no_usual_quality_never_abstains_without_a_named_default() -> None:
    pool = [(one, replace(told, usual_quality=None)) for one, told in UNSURE]
    assert models(decide(pool, policy(RouterSpec(confidence=0.9))))[0] == "winner"


def test_the_defaults_endpoints_share_its_traffic_by_weight() -> None:
    card, told = UNSURE[0]
    twin = candidate("usual", "usual-2", weight=3.0)
    pool = [*UNSURE, (twin, replace(told, endpoint_id="usual-2"))]
    shares = {
        one.candidate.endpoint.id: one.propensity
        for one in decide(pool, policy(RouterSpec(confidence=0.8), exploration=0.2)).ranking
    }
    assert shares == pytest.approx({"usual-endpoint": 0.2, "usual-2": 0.6, "winner-endpoint": 0.2})
    assert card.card.id == "usual"


def test_certainty_is_the_normal_probability_of_the_difference() -> None:
    _, one = known("a", 0.7, margin=0.1645)
    assert certainty(Objective(), one, one, 0.0) == pytest.approx(0.5)
    assert certainty(Objective(), one, one, 0.1 * math.sqrt(2)) == pytest.approx(0.8413, abs=1e-3)
    assert certainty(Objective(), *(known("a", 0.7)[1],) * 2, 0.01) == 1.0


POOLS = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 1), st.floats(0, 1), st.sampled_from([0.1, 1.0, 50.0])),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=60)
@given(
    POOLS,
    st.sampled_from([0.5, 0.8, 0.99]),
    st.sampled_from([0.0, 0.5]),
    st.sampled_from([0.0, 0.3, 0.9]),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([1.0, 7.5]),
)
def test_propensities_are_what_is_drawn_whatever_bounds_and_doubts(
    rows: list[tuple[float, float, float, float, float]],
    confidence: float,
    min_trust: float,
    floor: float,
    exploration: float,
    multiplier: float,
) -> None:
    pool = [known(f"m{place}", *row[:4], price=row[4]) for place, row in enumerate(rows)]
    router = RouterSpec(confidence=confidence, min_trust=min_trust)
    under = policy(router, exploration, cost=0.5, min_quality=floor)
    told = {one.candidate.card.id: one.propensity for one in decide(pool, under, 0, multiplier).ranking}
    assert sum(told.values()) == pytest.approx(1.0)
    drawn = Counter(models(decide(pool, under, seed, multiplier))[0] for seed in range(300))
    for model, share in told.items():
        assert abs(drawn[model] - 300 * share) <= 5 * math.sqrt(300 * share * (1 - share)) + 1


def test_the_expected_cost_follows_from_the_mean_length_and_the_upper_one_does_not() -> None:
    steady, wordy = known("steady", 0.7), known("wordy", 0.7)
    skewed = (wordy[0], replace(wordy[1], output_tokens_mean=180))

    decision = decide([skewed, steady], policy(cost=1.0))

    assert models(decision) == ["steady", "wordy"]
    assert [one.cost_nanousd for one in decision.ranking] == [200_000, 280_000]
    assert len({one.cost_high_nanousd for one in decision.ranking}) == 1


def test_the_default_is_the_best_by_usual_mean_length() -> None:
    steady, wordy = known("steady", 0.5, margin=0.3), known("wordy", 0.5, margin=0.3)
    best = known("best", 0.6, margin=0.3, usual=0.1)
    skewed = (wordy[0], replace(wordy[1], usual_output_tokens_mean=900))

    decision = decide([skewed, steady, best], policy(RouterSpec(kind="rules", confidence=0.9), cost=0.01))

    assert models(decision)[0] == "steady"
