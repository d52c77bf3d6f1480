"""Inverse gap weighting: who is tried, how often, and never what is not safe."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.schema import Learning, Objective, Policy
from routers.choose import choose
from routers.decision import Decision
from routers.exploration import Pool, Safety, tried_shares
from tests.unit.routers.candidates import candidate, forecast, query

NO_BOUND = Safety(share=1.0, within=10.0)


def pool(*scores: float, low: float = 0.5, high: float = 0.1, extra: int = 0) -> Pool:
    """Candidates with these scores, each with the same bounds."""
    many = len(scores)
    return Pool(scores, [score + high for score in scores], [low] * many, [extra] * many)


def test_the_further_behind_the_less_it_is_tried() -> None:
    shares = tried_shares(pool(1.0, 0.9, 0.5), [1, 2], 1.0, eagerness=10.0, safety=NO_BOUND)

    assert shares == {1: pytest.approx(1 / 4), 2: pytest.approx(1 / 8)}


@given(
    scores=st.lists(st.floats(-5, 5), min_size=1, max_size=20),
    eagerness=st.floats(0, 1e6),
    share=st.floats(0, 1),
)
def test_no_more_than_the_share_is_spent_on_trying(scores: list[float], eagerness: float, share: float) -> None:
    safety = replace(NO_BOUND, share=share)

    shares = tried_shares(pool(*scores), range(1, len(scores)), max(scores), eagerness, safety)

    assert all(one >= 0 for one in shares.values())
    assert sum(shares.values()) <= share + 1e-12
    assert sum(shares.values()) < 1


@pytest.mark.parametrize(
    ("safety", "tried"),
    [
        (replace(NO_BOUND, within=0.2), {1}),
        (replace(NO_BOUND, floor=0.6), set()),
        (replace(NO_BOUND, allowance_nanousd=4), set()),
        (replace(NO_BOUND, allowance_nanousd=5), {1, 2}),
        (replace(NO_BOUND, share=0.0), set()),
    ],
)
def test_what_is_not_safe_is_not_tried(safety: Safety, tried: set[int]) -> None:
    assert set(tried_shares(pool(1.0, 0.8, 0.5, extra=5), [1, 2], 1.0, 10.0, safety)) == tried


def decided(
    rng: random.Random,
    policy: Policy,
    allowance_nanousd: int | None = None,
    second_price: float | None = 1.0,
    explores: bool = True,
) -> Decision:
    """A choice among four models whose router goes on learning; the best is 'm0', 'm3' is dear and hopeless."""
    prices = (1.0, second_price, 1.0, 1000.0)
    pool = [candidate(f"m{place}", price=price) for place, price in enumerate(prices)]
    told = [
        replace(forecast(one, quality), quality_low=quality - 0.1, quality_high=quality + 0.1, eagerness=10.0)
        for one, quality in zip(pool, (0.8, 0.75, 0.6, 0.2), strict=True)
    ]
    return choose(
        policy, "bandit", query(), pool, told, "", rng, allowance_nanousd=allowance_nanousd, explores=explores
    )


def policy(share: float = 0.5, within: float = 0.2, min_quality: float = 0.0) -> Policy:
    objective = Objective(min_quality=min_quality)
    return Policy(schema=1, name="p", exploration=share, learning=Learning(within=within), objective=objective)


def test_logged_propensities_are_the_frequencies_of_the_draws() -> None:
    rng, draws, under = random.Random(1), 20_000, policy()

    decisions = [decided(rng, under) for _ in range(draws)]

    counts = Counter(one.chosen.candidate.card.id for one in decisions)
    told = {ranked.candidate.card.id: ranked.propensity for ranked in decisions[0].ranking}
    assert sum(told.values()) == pytest.approx(1)
    assert told["m3"] == 0.0 and counts["m3"] == 0
    for model, share in told.items():
        assert abs(counts[model] / draws - share) < 4 * (share * (1 - share) / draws) ** 0.5 + 1e-9


def test_a_model_under_the_quality_floor_at_its_lower_bound_is_not_tried() -> None:
    decision = decided(random.Random(1), policy(min_quality=0.55))

    told = {ranked.candidate.card.id: ranked.propensity for ranked in decision.ranking}
    assert told["m1"] > 0 and told["m2"] == told["m3"] == 0


def test_what_is_tried_never_costs_more_than_the_allowance_in_all() -> None:
    rng, left, tries = random.Random(4), 1_000_000, 0

    for _ in range(500):
        decision = decided(rng, policy(), left)
        left -= decision.extra_nanousd
        tries += decision.extra_nanousd > 0

    assert left == 0 and tries == 10


def test_a_try_says_what_it_may_cost_more_and_no_allowance_means_no_try() -> None:
    rng = random.Random(3)
    decisions = [decided(rng, policy()) for _ in range(50)]

    extra = {one.chosen.candidate.card.id: one.extra_nanousd for one in decisions}
    assert extra["m0"] == 0 and extra["m1"] == extra["m2"] == 100_000
    assert {decided(rng, policy(), 99_999).chosen.candidate.card.id for _ in range(50)} == {"m0"}


def test_a_model_without_a_price_is_not_tried_under_an_allowance() -> None:
    bounded = decided(random.Random(1), policy(), 10**9, second_price=None)
    free = decided(random.Random(1), policy(), None, second_price=None)

    assert {one.candidate.card.id for one in bounded.ranking if one.propensity > 0} == {"m0", "m2"}
    assert {one.candidate.card.id for one in free.ranking if one.propensity > 0} == {"m0", "m1", "m2"}


def test_where_nobody_explores_the_best_is_certain_whatever_the_policy_s_share() -> None:
    decisions = [decided(random.Random(seed), policy(), explores=False) for seed in range(50)]

    assert {one.chosen.candidate.card.id for one in decisions} == {"m0"}
    assert {one.chosen.propensity for one in decisions} == {1.0} and decisions[0].extra_nanousd == 0
