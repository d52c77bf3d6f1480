"""Paced budgets of policies: who is bounded by them, and that multipliers follow what all processes spend."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.admission.gauges import Demand, GaugesUnavailable, Granted, Level, Refused, Settlement
from gateway.admission.memory_gauges import MemoryGauges
from gateway.admission.refusals import budget_exceeded
from gateway.admission.rules import NO_RULES, Budget, Caller, Rules, Scope
from gateway.errors import BudgetExceeded
from gateway.pacing import Paces
from policies.schema import Objective, Pacing, Policy
from tests.eventually import eventually

NOON = 1_800_000_000.0 // 86_400 * 86_400 + 43_200
CALLER = Caller("key", "user", None, None)


def policy(budget_usd: float | None = 1.0, name: str = "thrifty", **pacing: float) -> Policy:
    made = None if budget_usd is None else Pacing.model_validate({"budget_usd": budget_usd, **pacing})
    return Policy(schema=1, name=name, objective=Objective(cost=0.5), pacing=made)


class Clock:
    now = NOON

    def __call__(self) -> float:
        return self.now


class Away(MemoryGauges):
    """A store that does not answer."""

    async def levels(self, budgets: Sequence[Budget]) -> Sequence[Level]:
        raise GaugesUnavailable("no answer")


class Broken(MemoryGauges):
    """A store with a bug."""

    asked = 0

    async def levels(self, budgets: Sequence[Budget]) -> Sequence[Level]:
        self.asked += 1
        raise RuntimeError("a bug")


async def spend(gauges: MemoryGauges, rules: Rules, nanousd: int, name: str) -> Granted | Refused:
    demand = Demand(rules, nanousd, 1)
    outcome = await gauges.admit(name, demand)
    if isinstance(outcome, Granted):
        gauges.settle(Settlement(name, demand, nanousd, 1))
    return outcome


def test_a_policy_without_a_pace_is_left_alone() -> None:
    paces = Paces(MemoryGauges())
    assert paces.multiplier(policy(None)) == 1.0
    assert paces.bound(policy(None), CALLER) is CALLER
    paces.spend(policy(None), 1000)


def test_a_paced_policy_bounds_its_callers_by_a_hard_budget_of_the_period() -> None:
    own = Budget("b1", Scope.KEY, "key", 5)
    paces, caller = Paces(MemoryGauges()), Caller("key", "user", None, None, rules=Rules((own,)))
    bounded = paces.bound(policy(2.0), caller)
    assert bounded.rules.budgets[0] is own
    paced = bounded.rules.budgets[1]
    assert (paced.limit_nanousd, paced.hard, paced.window.period) == (2_000_000_000, True, "day")


def test_the_same_caller_gets_the_same_rules_since_stores_keep_them_by_identity() -> None:
    paces, under = Paces(MemoryGauges()), policy()
    assert paces.bound(under, CALLER).rules is paces.bound(under, CALLER).rules
    assert (
        paces.bound(under, Caller("key", "user", None, None)).rules.budgets == paces.bound(under, CALLER).rules.budgets
    )


async def test_spending_ahead_of_time_raises_the_multiplier_between_looks_and_after_them() -> None:
    clock = Clock()
    gauges = MemoryGauges(now=clock)
    paces, under = Paces(gauges, now=clock), policy(1.0)
    rules = paces.bound(under, CALLER).rules
    for place in range(100):
        clock.now += 60
        assert isinstance(await spend(gauges, rules, 5_000_000, f"l{place}"), Granted)
        paces.spend(under, 5_000_000)
        await paces.look()
    assert paces.multiplier(under) > 1.5


async def test_another_process_spending_raises_it_too() -> None:
    clock = Clock()
    gauges = MemoryGauges(now=clock)
    one, other, under = (*(Paces(gauges, 0.5, clock) for _ in range(2)), policy(1.0))
    rules = one.bound(under, CALLER).rules
    for place in range(60):
        clock.now += 60
        await spend(gauges, rules, 15_000_000, f"l{place}")
        other.spend(under, 1_000_000)
        await other.look()
    assert other.multiplier(under) > 1.0


async def test_what_the_paced_budget_does_not_cover_is_refused_until_the_next_period() -> None:
    clock = Clock()
    gauges = MemoryGauges(now=clock)
    rules = Paces(gauges, now=clock).bound(policy(0.001), CALLER).rules
    assert isinstance(await spend(gauges, rules, 900_000, "l1"), Granted)
    assert isinstance(await spend(gauges, rules, 200_000, "l2"), Refused)
    clock.now += 86_400
    assert isinstance(await spend(gauges, rules, 200_000, "l3"), Granted)


def test_an_edited_pace_begins_anew_and_others_keep_theirs() -> None:
    paces = Paces(MemoryGauges())
    first = paces.bound(policy(1.0), CALLER)
    assert paces.bound(policy(1.0), CALLER) is first
    assert paces.bound(policy(3.0), CALLER).rules.budgets[0].limit_nanousd == 3_000_000_000
    assert paces.bound(policy(1.0, "other"), CALLER).rules.budgets[0].id != first.rules.budgets[0].id


async def test_a_store_that_is_away_is_said_and_forecasts_go_on() -> None:
    clock = Clock()
    paces, under = Paces(Away(), now=clock), policy(1.0)
    paces.spend(under, 1)
    with pytest.raises(GaugesUnavailable):
        await paces.look()
    paces.spend(under, 2_000_000_000)
    paces.spend(under, 1)
    assert paces.multiplier(under) == pytest.approx(100.0)


async def test_without_any_paced_policy_the_store_is_not_asked() -> None:
    paces = Paces(Away())
    paces.multiplier(policy(None))
    await paces.look()
    assert CALLER.rules is NO_RULES


@pytest.mark.parametrize(
    ("budget_id", "wanted"), [("pacing:thrifty:day", True), ("b1", False), (None, False)], ids=["paced", "own", "limit"]
)
async def test_only_what_the_paced_budget_itself_refuses_was_wanted_all_the_same(
    budget_id: str | None, wanted: bool
) -> None:
    clock = Clock()
    paces, under = Paces(MemoryGauges(now=clock), now=clock), policy(1.0)
    error = BudgetExceeded("as it was", budget_id=budget_id)

    for _ in range(100):
        paces.refuse(under, error)
    clock.now += 600
    await paces.look()
    paces.spend(under, 5_000_000)

    assert (paces.multiplier(under) > 1.0) is wanted
    assert (error.message == "as it was") is not wanted


async def test_a_caller_is_not_told_what_all_callers_of_the_policy_have_spent() -> None:
    clock = Clock()
    gauges = MemoryGauges(now=clock)
    paces, under = Paces(gauges, now=clock), policy(0.001)
    rules = paces.bound(under, CALLER).rules
    await spend(gauges, rules, 900_000, "l1")
    refused = await spend(gauges, rules, 200_000, "l2")
    assert isinstance(refused, Refused)
    error = budget_exceeded(rules.budgets[0], refused, 200_000, clock.now)

    paces.refuse(under, error)

    assert error.message == "The daily budget of policy 'thrifty' does not cover this call."
    assert error.detail()["message"] == error.message and error.retry_after_s is not None


async def test_a_fault_of_our_own_is_told_once_and_looking_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    gauges = Broken()
    paces = Paces(gauges, every_s=0.001)
    paces.multiplier(policy())

    running = asyncio.create_task(paces.run())
    await eventually(lambda: gauges.asked > 5 or running.done())
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert gauges.asked > 5
    assert [one.getMessage() for one in caplog.records] == ["pacing goes on by forecasts"]
