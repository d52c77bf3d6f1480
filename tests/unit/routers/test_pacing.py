"""Pacing: bounds of the multiplier, spending on any stream, and how near to the best fixed multiplier it comes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.pacing import SPEED, Pacer

DAY = 86_400.0
PRICES = np.array([1.0, 4.0, 20.0, 60.0])  # nano-dollars of four models
BASE = 0.001  # weight of a nano-dollar at multiplier 1


def qualities(calls: int, seed: int) -> np.ndarray:
    """Calls of which some need a dear model and most do not."""
    rng = np.random.default_rng(seed)
    need = rng.random((calls, 1))
    told: np.ndarray = np.array([0.4, 0.6, 0.8, 0.95]) + (1 - need) * np.array([0.4, 0.3, 0.15, 0.05])
    return told


def served(pacer: Pacer, told: np.ndarray, budget: float, times: np.ndarray, start: float = 0.0) -> tuple[float, float]:
    """Quality and spending of a day whose calls all ask the multiplier; what the budget does not cover is refused."""
    spent = gained = 0.0
    looked = -math.inf
    for quality, now in zip(told, times + start, strict=True):
        if now - looked >= 60:
            pacer.look(now, start, start + DAY, round(spent))
            looked = now
        worth = quality - BASE * pacer.multiplier * PRICES
        worth[spent + PRICES > budget] = -np.inf
        place = int(worth.argmax())
        if math.isfinite(worth[place]):
            spent, gained = spent + PRICES[place], gained + quality[place]
            pacer.spend(round(PRICES[place]))
        else:
            pacer.refuse()
    return gained, spent


def best_fixed(told: np.ndarray, budget: float) -> float:
    """Quality of the best multiplier known afterwards: the optimum of the linear programme, up to one call."""
    found = 0.0
    for multiplier in np.logspace(0, 5, 200):
        places = (told - BASE * multiplier * PRICES).argmax(axis=1)
        if PRICES[places].sum() <= budget:
            found = max(found, float(told[np.arange(len(told)), places].sum()))
    return found


def paced(budget: float) -> Pacer:
    return Pacer(round(budget), 1.0, 1e5)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=200), st.integers(1, 10_000), st.floats(1, 1000))
def test_the_multiplier_stays_within_its_bounds_on_any_stream(costs: list[int], budget: int, most: float) -> None:
    pacer = Pacer(budget, 0.5, most)
    for place, cost in enumerate(costs):
        pacer.look(place * 60.0, 0.0, DAY, sum(costs[:place]))
        pacer.spend(cost)
        assert 0.5 * (1 - 1e-9) <= pacer.multiplier <= most * (1 + 1e-9)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.permutations(range(4)))
def test_spending_beyond_the_plan_is_bounded_whatever_comes(seed: int, order: list[int]) -> None:
    """The sum of (cost / money per call - 1) stays under ln(most) / step until the multiplier's bound is reached."""
    rng, pacer = np.random.default_rng(seed), paced(1_000)
    pacer.look(1.0, 0.0, DAY, 0)
    pacer._left = 1000.0  # a plan of 1,000 calls, which `look` would estimate
    step = pacer._step
    excess = 0.0
    for place in range(800):
        plan = pacer._money / pacer._left
        cost = int(min(PRICES[order[place // 200]] * rng.random(), plan / step))
        pacer.spend(cost)
        if pacer.multiplier >= 1e5 * 0.999:
            return
        excess += cost / plan - 1
        assert excess <= math.log(1e5) / step + 1e-6


@pytest.mark.parametrize("share", [0.2, 0.5])
@pytest.mark.parametrize("order", ["drawn", "dear first", "cheap first"])
def test_quality_is_near_the_best_fixed_multiplier_in_any_order(share: float, order: str) -> None:
    told, times = qualities(3000, 1), np.linspace(0, DAY, 3000, endpoint=False)
    if order != "drawn":
        told = told[np.argsort(told[:, 0] * (1 if order == "dear first" else -1))]
    budget = share * 60 * 3000 / 2
    gained, spent = served(paced(budget), told, budget, times)
    assert spent <= budget
    assert gained >= 0.97 * best_fixed(told, budget)


def test_the_gap_to_the_optimum_shrinks_with_the_number_of_calls() -> None:
    gaps = []
    for calls in (300, 10_000):
        told, budget = qualities(calls, 2), 8.0 * calls
        gained, _ = served(paced(budget), told, budget, np.linspace(0, DAY, calls, endpoint=False))
        gaps.append(1 - gained / best_fixed(told, budget))
    assert gaps[1] < max(gaps[0], 0.005) and gaps[1] < 0.01


def test_bursts_cost_little_quality_and_never_the_budget() -> None:
    rng = np.random.default_rng(3)
    burst = rng.choice([0.2, 0.45, 0.7, 0.9], 2000) * DAY + rng.normal(0, 900, 2000)
    times = np.sort(np.concatenate([burst, rng.random(1000) * DAY]) % DAY)
    told, budget = qualities(3000, 4), 8.0 * 3000
    gained, spent = served(paced(budget), told, budget, times)
    assert spent <= budget
    assert gained >= 0.9 * best_fixed(told, budget)


def test_a_rush_that_came_yesterday_too_is_provided_for() -> None:
    rng = np.random.default_rng(5)
    times = np.sort(np.concatenate([rng.random(500) * 0.8, 0.8 + 0.2 * rng.random(1500)]) * DAY)
    told, budget = qualities(2000, 6), 8.0 * 2000
    pacer = paced(budget)
    first, _ = served(pacer, told, budget, times)
    second, spent = served(pacer, told, budget, times, DAY)
    assert second > first and spent <= budget
    assert second >= 0.95 * best_fixed(told, budget)


def test_with_nothing_left_cost_counts_as_much_as_it_can() -> None:
    pacer = Pacer(100, 1.0, 50.0)
    pacer.look(1.0, 0.0, DAY, 100)
    pacer.spend(1)
    assert pacer.multiplier == pytest.approx(50.0)


def test_a_budget_that_lasts_leaves_the_objective_alone() -> None:
    pacer = Pacer(10**9, 1.0, 50.0)
    for place in range(200):
        pacer.look(place * 60.0, 0.0, DAY, place)
        pacer.spend(1)
    assert pacer.multiplier == 1.0


def test_workers_share_what_is_left() -> None:
    whole, half = Pacer(1000, share=1.0), Pacer(2000, share=0.5)
    for pacer, spent in ((whole, 100), (half, 200)):
        pacer.look(DAY / 2, 0.0, DAY, spent)
        pacer.spend(10)
        pacer.look(DAY / 2 + 60, 0.0, DAY, spent)
        pacer.spend(10)
    assert whole.multiplier == pytest.approx(half.multiplier)


@pytest.mark.parametrize("wrong", [{"budget": 0}, {"least": 0.0}, {"least": 2.0}, {"most": 0.5}, {"share": 0.0}])
def test_senseless_paces_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a pace needs"):
        Pacer(**{"budget": 1, **wrong})  # type: ignore[arg-type] # the wrong values are meant


def test_the_speed_is_the_one_that_the_bound_speaks_of() -> None:
    pacer = paced(10)
    pacer.look(1.0, 0.0, DAY, 0)
    assert pacer._step == pytest.approx(SPEED / 10)
