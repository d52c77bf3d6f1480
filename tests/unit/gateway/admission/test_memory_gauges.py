"""What only the store in memory has: its bounds, its share, its clocks. The rest is in the contract's tests."""

from __future__ import annotations

import pytest

from gateway.admission.gauges import Demand, Granted, Refused, Settlement
from gateway.admission.memory_budgets import MemoryBudgets
from gateway.admission.memory_gauges import MemoryGauges
from gateway.admission.memory_limits import Hold, MemoryLimits
from gateway.admission.recent import Recent
from gateway.admission.rules import Budget, Period, RateLimit, Rules, Scope, Window, WindowKind


class Clock:
    """Moved by hand."""

    now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


def limit(name: str, **bounds: int) -> RateLimit:
    return RateLimit(name, Scope.KEY, "k", **bounds)


def test_idle_limits_are_forgotten() -> None:
    clock = Clock()
    limits = MemoryLimits(monotonic=clock)
    for number in range(2_000):
        clock.now_s += 1
        one = (limit(f"l{number}", requests_per_minute=60, concurrent_requests=1),)
        assert isinstance(limits.take(one, 0), Granted)
        limits.settle(Hold(one, 0), 0)

    assert len(limits) < 10


def test_limits_in_use_are_not_forgotten() -> None:
    clock = Clock()
    limits = MemoryLimits(monotonic=clock)
    kept = (limit("kept", concurrent_requests=1),)
    limits.take(kept, 0)
    for number in range(100):
        clock.now_s += 100
        limits.take((limit(f"l{number}", requests_per_minute=60),), 0)

    assert isinstance(limits.take(kept, 0), Refused)


def test_budgets_whose_window_is_over_are_forgotten() -> None:
    budgets, day = MemoryBudgets(), Window(WindowKind.CALENDAR, Period.DAY)
    for number in range(2_000):
        one = [Budget(f"b{number}", Scope.KEY, "k", 100, day)]
        budgets.reserve(one, 10, number * 10_000.0)
        budgets.book(one, 10, 10, number * 10_000.0, number * 10_000.0)

    assert len(budgets) < 50


def test_totals_are_kept() -> None:
    budgets = MemoryBudgets()
    for number in range(100):
        one = [Budget(f"b{number}", Scope.KEY, "k", 100)]
        budgets.reserve(one, 10, number * 1e6)
        budgets.book(one, 10, 10, number * 1e6, number * 1e6)

    assert budgets.level(Budget("b0", Scope.KEY, "k", 100), 1e9).spent_nanousd == 10


async def test_a_process_gives_out_its_share_and_at_least_one() -> None:
    gauges = MemoryGauges(share=0.25)
    demand = Demand(Rules((), (limit("l", requests_per_minute=8, concurrent_requests=3),)), 0, 0)

    answers = []
    for number in range(4):
        answers.append(isinstance(await gauges.admit(f"{number}", demand), Granted))
        gauges.settle(Settlement(f"{number}", demand, 0, 0))

    assert answers == [True, True, False, False]


async def test_a_demand_above_the_share_passes_when_nothing_is_in_use_and_is_waited_for() -> None:
    clock = Clock()
    gauges = MemoryGauges(monotonic=clock, share=0.25)
    demand = Demand(Rules((), (limit("l", tokens_per_minute=100),)), 0, 100)

    first, second = await gauges.admit("a", demand), await gauges.admit("b", demand)
    clock.now_s += 241
    third = await gauges.admit("c", demand)

    assert isinstance(first, Granted) and isinstance(third, Granted)
    assert isinstance(second, Refused) and second.retry_after_s is not None and 239 < second.retry_after_s <= 240


async def test_a_wall_clock_that_is_set_neither_expires_leases_nor_holds_up_limits() -> None:
    now, monotonic = Clock(), Clock()
    gauges = MemoryGauges(now=now, monotonic=monotonic)
    demand = Demand(Rules((Budget("b", Scope.KEY, "k", 100),), (limit("l", requests_per_minute=2),)), 10, 0)
    await gauges.admit("a", demand)

    now.now_s += 1e6
    assert await gauges.reap() == []
    now.now_s -= 2e6
    assert isinstance(await gauges.admit("b", demand), Granted)


async def test_a_lost_call_gives_its_place_back_when_it_expires() -> None:
    clock = Clock()
    gauges = MemoryGauges(monotonic=clock, lease_s=60)
    demand = Demand(Rules((), (limit("l", concurrent_requests=1),)), 5, 0)
    await gauges.admit("a", demand)
    clock.now_s += 61

    assert await gauges.reap() == []  # nothing was charged
    assert isinstance(await gauges.admit("b", demand), Granted)


async def test_a_changed_limit_counts_at_once_and_what_was_used_stays_used() -> None:
    gauges = MemoryGauges(monotonic=Clock())
    tight, wide = (Demand(Rules((), (limit("l", requests_per_minute=number),)), 0, 0) for number in (1, 100))
    await gauges.admit("a", tight)

    refused = [await gauges.admit("b", tight), await gauges.admit("c", wide)]

    waits = [answer.retry_after_s for answer in refused if isinstance(answer, Refused)]
    assert waits == [pytest.approx(60), pytest.approx(0.6)]


def test_a_clock_that_is_set_back_holds_nobody_up_for_more_than_a_minute() -> None:
    clock = Clock()
    limits = MemoryLimits(monotonic=clock)
    bounds = (limit("l", requests_per_minute=60, tokens_per_minute=60),)
    limits.take(bounds, 60)

    clock.now_s -= 50_000
    assert isinstance(limits.take(bounds, 1), Refused)
    clock.now_s += 60
    assert isinstance(limits.take(bounds, 1), Granted)


def test_only_the_latest_ids_are_remembered() -> None:
    recent = Recent(most=3)
    for one in ("a", "b", "b", "c", "d"):
        recent.add(one)

    assert [one in recent for one in "abcd"] == [False, True, True, True]
