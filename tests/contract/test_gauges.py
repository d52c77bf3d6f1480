"""What every store of budgets and limits must do, and a machine that looks for what it must not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from gateway.admission.gauges import Demand, Gauges, Granted, Kind, Refused, Settlement
from gateway.admission.rules import Budget, Period, RateLimit, Rules, Scope, Window, WindowKind
from tests.contract.gauge_stores import Store, agreed, memory_store, redis_store, sql_store
from tests.contract.gauges_machine import GaugesMachine
from tests.integration.postgres import postgres_server, postgres_url
from tests.integration.redis_server import redis_running, redis_server

__all__ = ["postgres_server", "postgres_url", "redis_running", "redis_server"]

# Examples of the machine, sized so that all stores together take half a minute. Before a change of a store is
# released: 2,000 in memory and 200 of each other one.
EXAMPLES = {"memory": 100, "sqlite": 12, "postgres": 8, "redis": 12}
STEPS = 30

Opening = Callable[[], AbstractAsyncContextManager[Store]]


@pytest.fixture(params=list(EXAMPLES))
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Opening:
    """How the store under test is opened."""
    if request.param == "memory":
        return memory_store
    if request.param == "sqlite":
        return lambda: sql_store(f"sqlite:///{tmp_path}/gauges.sqlite3")
    if request.param == "postgres":
        url: str = request.getfixturevalue("postgres_url")
        return lambda: sql_store(url)
    server = request.getfixturevalue("redis_server")
    return lambda: redis_store(server, f"sqlite:///{tmp_path}/book.sqlite3")


@pytest.fixture
async def store(opening: Opening) -> AsyncIterator[Store]:
    """The store under test, empty."""
    async with opening() as opened:
        yield opened


@pytest.fixture
def gauges(store: Store) -> Gauges:
    """One process's view of it."""
    return store.gauges


def test_no_sequence_of_steps_leads_away_from_the_model(request: pytest.FixtureRequest, opening: Opening) -> None:
    """spent + reserved <= limit after every step, no refusal without need, every settlement counted once."""
    kind = request.node.callspec.params["opening"]
    with _running(opening) as (runner, store):
        machine = type("Machine", (GaugesMachine,), {"store": store, "runner": runner})
        found = settings(
            max_examples=EXAMPLES[kind],
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        )
        run_state_machine_as_test(machine, settings=found)


async def test_of_many_at_once_exactly_those_pass_that_the_budget_covers(gauges: Gauges) -> None:
    demand = _demand([_budget(1_000)], 100)

    answers = await asyncio.gather(*(gauges.admit(f"lease{number}", demand) for number in range(40)))

    assert sum(isinstance(answer, Granted) for answer in answers) == 10


async def test_a_settlement_above_its_reservation_counts_in_full(gauges: Gauges) -> None:
    budget = _budget(100)
    await gauges.admit("a", _demand([budget], 60))
    gauges.settle(Settlement("a", _demand([budget], 60), 130, 0))

    level = (await _settled(gauges, budget, 130))[0]
    refused = await gauges.admit("b", _demand([budget], 1))

    assert level == (130, 0)
    assert isinstance(refused, Refused) and refused.free_nanousd == 0


async def test_a_call_that_costs_nothing_passes_an_overspent_budget(gauges: Gauges) -> None:
    budget = _budget(100)
    gauges.settle(Settlement("stray", _demand([budget], 0), 130, 0))
    await _settled(gauges, budget, 130)

    assert isinstance(await gauges.admit("free", _demand([budget], 0)), Granted)


async def test_the_cost_of_a_call_that_the_store_does_not_know_is_booked_once(gauges: Gauges) -> None:
    budget = _budget(100)
    stray = Settlement("stray", _demand([budget], 50), 30, 0)
    gauges.settle(stray)
    await _settled(gauges, budget, 30)
    gauges.settle(stray)
    gauges.settle(Settlement("other", _demand([budget], 5), 5, 0))

    assert await _settled(gauges, budget, 35) == [(35, 0)]


async def test_an_admission_that_was_undone_leaves_nothing(gauges: Gauges) -> None:
    demand = _demand([_budget(100)], 60)
    asking = asyncio.create_task(_admit(gauges, "a", demand))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait({asking})
    gauges.settle(Settlement("a", demand, 0, 0))

    assert await _settled(gauges, demand.rules.budgets[0], 0) == [(0, 0)]


async def test_a_soft_budget_warns_and_does_not_refuse(gauges: Gauges) -> None:
    soft = _budget(100, hard=False)

    answers = [await gauges.admit(f"lease{number}", _demand([soft], 60)) for number in range(2)]

    assert [answer.warned for answer in answers if isinstance(answer, Granted)] == [(), (soft.id,)]


@pytest.mark.parametrize(
    ("window", "at_most_s"),
    [
        (Window(), None),
        (Window(WindowKind.CALENDAR, Period.DAY), 86_400),
        (Window(WindowKind.ROLLING, seconds=600), 610),
    ],
)
async def test_a_refusal_tells_what_is_free_and_when_the_window_ends(
    gauges: Gauges, window: Window, at_most_s: int | None
) -> None:
    budget = _budget(100, window=window)
    await gauges.admit("a", _demand([budget], 70))

    refused = await gauges.admit("b", _demand([budget], 31))

    assert isinstance(refused, Refused)
    assert (refused.kind, refused.rule_id, refused.free_nanousd) == (Kind.BUDGET, budget.id, 30)
    if at_most_s is None:
        assert refused.retry_after_s is None
    else:
        assert refused.retry_after_s is not None and 0 < refused.retry_after_s <= at_most_s


async def test_an_expired_lease_is_charged_once_whoever_reaps_it(store: Store) -> None:
    budget = _budget(1_000)
    await store.gauges.admit("a", _demand([budget], 60))
    await store.gauges.extend("a", _demand([budget], 60), 15)
    await store.expire(["a"], [])

    found = await asyncio.gather(*(gauges.reap() for gauges in (store.gauges, *store.others)))

    assert [(one.lease_id, one.cost_nanousd) for some in found for one in some] == [("a", 75)]
    assert await _settled(store.gauges, budget, 75) == [(75, 0)]
    assert await store.gauges.extend("a", _demand([budget], 60), 1) is False


async def test_a_call_that_outlived_its_lease_is_charged_what_it_cost(store: Store) -> None:
    budget = _budget(100)
    demand = _demand([budget], 60)
    for lease_id in ("a", "b"):
        await store.gauges.admit(lease_id, _demand([budget], 30))
    await store.gauges.extend("a", demand, 10)
    await store.expire(["a", "b"], [])
    await (store.others[0] if store.others else store.gauges).reap()

    for _ in range(2):
        store.gauges.settle(Settlement("a", demand, 25, 0))
        store.gauges.settle(Settlement("b", demand, 0, 0))

    assert await _settled(store.gauges, budget, 25) == [(25, 0)]


async def test_processes_share_their_budgets(store: Store) -> None:
    budget = _budget(100)
    for number, gauges in enumerate((store.gauges, *store.others)):
        answer = await gauges.admit(f"lease{number}", _demand([budget], 60))
        assert isinstance(answer, Granted) is (number == 0)


async def test_requests_pass_up_to_the_limit_and_are_told_when_to_come_back(gauges: Gauges) -> None:
    demand = _demand(limits=[RateLimit("l", Scope.KEY, "k", requests_per_minute=3)])

    answers = [await gauges.admit(f"lease{number}", demand) for number in range(4)]

    quotas = [answer.requests for answer in answers if answer.requests is not None]
    assert [(quota.limit, quota.remaining) for quota in quotas] == [(3, 2), (3, 1), (3, 0), (3, 0)]
    assert isinstance(answers[3], Refused) and answers[3].kind is Kind.REQUESTS
    assert answers[3].retry_after_s is not None and 19 < answers[3].retry_after_s <= 20


async def test_tokens_are_corrected_at_settlement(gauges: Gauges) -> None:
    demand = _demand(limits=[RateLimit("l", Scope.KEY, "k", tokens_per_minute=600)], tokens=500)
    await gauges.admit("a", demand)
    refused = await gauges.admit("b", demand)
    gauges.settle(Settlement("a", demand, 0, 40))

    assert isinstance(refused, Refused) and refused.kind is Kind.TOKENS and refused.retry_after_s is not None
    assert isinstance(await _passes(gauges, demand), Granted)


async def test_a_demand_above_the_whole_limit_is_told_that_waiting_does_not_help(gauges: Gauges) -> None:
    demand = _demand(limits=[RateLimit("l", Scope.KEY, "k", tokens_per_minute=600)], tokens=601)

    refused = await gauges.admit("a", demand)

    assert isinstance(refused, Refused) and refused.kind is Kind.TOKENS and refused.retry_after_s is None


async def test_calls_at_once_are_bounded_until_one_ends(gauges: Gauges) -> None:
    demand = _demand(limits=[RateLimit("l", Scope.KEY, "k", concurrent_requests=2)])
    answers = [await gauges.admit(f"lease{number}", demand) for number in range(3)]
    gauges.settle(Settlement("lease0", demand, 0, 0))

    assert isinstance(answers[1], Granted)
    assert isinstance(answers[2], Refused) and answers[2].kind is Kind.CONCURRENT
    assert isinstance(await _passes(gauges, demand), Granted)


async def test_a_call_that_a_budget_refuses_is_not_counted_by_limits(gauges: Gauges) -> None:
    limit = RateLimit("l", Scope.KEY, "k", requests_per_minute=2, tokens_per_minute=10, concurrent_requests=1)
    for number in range(5):
        answer = await gauges.admit(f"dear{number}", _demand([_budget(1)], 2, limits=[limit], tokens=10))
        assert isinstance(answer, Refused) and answer.kind is Kind.BUDGET

    granted = await gauges.admit("a", _demand(limits=[limit], tokens=10))

    assert isinstance(granted, Granted) and granted.requests is not None and granted.requests.remaining == 1


async def test_a_lease_that_takes_another_s_place_counts_once(gauges: Gauges) -> None:
    limit = RateLimit("l", Scope.KEY, "k", requests_per_minute=2, tokens_per_minute=100, concurrent_requests=1)
    first, second = (_demand([_budget(100)], cost, limits=[limit], tokens=cost) for cost in (60, 90))
    await gauges.admit("a", first)

    granted = await gauges.admit("b", second, replacing="a")

    assert isinstance(granted, Granted) and granted.requests is not None and granted.tokens is not None
    assert (granted.requests.remaining, granted.tokens.remaining) == (1, 10)
    assert await _settled(gauges, first.rules.budgets[0], 0, 90) == [(0, 90)]


async def test_a_lease_is_kept_where_its_replacement_is_refused(gauges: Gauges) -> None:
    limit = RateLimit("l", Scope.KEY, "k", tokens_per_minute=100, concurrent_requests=1)
    first = _demand([_budget(100)], 60, limits=[limit], tokens=60)
    await gauges.admit("a", first)

    too_dear = await gauges.admit("b", _demand([_budget(100)], 101, limits=[limit], tokens=1), replacing="a")
    too_long = await gauges.admit("c", _demand([_budget(100)], 1, limits=[limit], tokens=101), replacing="a")

    assert isinstance(too_dear, Refused) and too_dear.free_nanousd == 100 and isinstance(too_long, Refused)
    assert await gauges.extend("a", first, 40) is True
    gauges.settle(Settlement("a", first, 100, 60))
    assert await _settled(gauges, first.rules.budgets[0], 100) == [(100, 0)]


async def test_settlements_are_carried_out_before_a_store_is_closed(opening: Opening) -> None:
    budget = _budget(100_000)
    async with opening() as store:
        for number in range(300):
            assert isinstance(await store.gauges.admit(f"lease{number}", _demand([budget], 10)), Granted)
            store.gauges.settle(Settlement(f"lease{number}", _demand([budget], 10), 7, 0))
        await store.gauges.drain(10)
        for gauges in store.others:
            assert await _settled(gauges, budget, 2_100) == [(2_100, 0)]


@contextmanager
def _running(opening: Opening) -> Iterator[tuple[asyncio.Runner, Store]]:
    """A store and the event loop that it lives in, for a machine that is not asynchronous itself."""
    with asyncio.Runner() as runner:
        opened = opening()
        store = runner.run(opened.__aenter__())
        try:
            yield runner, store
        finally:
            runner.run(opened.__aexit__(None, None, None))


def _budget(limit: int, window: Window = Window(), hard: bool = True) -> Budget:  # noqa: B008 - it is frozen
    return Budget("budget", Scope.KEY, "k", limit, window, hard)


def _demand(
    budgets: list[Budget] | None = None, cost: int = 0, *, limits: list[RateLimit] | None = None, tokens: int = 0
) -> Demand:
    return Demand(Rules(tuple(budgets or ()), tuple(limits or ())), cost, tokens)


async def _admit(gauges: Gauges, lease_id: str, demand: Demand) -> Granted | Refused:
    return await gauges.admit(lease_id, demand)


async def _settled(gauges: Gauges, budget: Budget, spent: int, reserved: int = 0) -> list[tuple[int, int]]:
    """Spent and reserved, once that much is."""
    soft = Budget(budget.id, budget.scope, budget.scope_id, budget.limit_nanousd, budget.window, hard=False)
    wanted = [(spent, reserved)]
    await agreed(gauges, [soft], lambda levels: _figures(levels) == wanted)
    return wanted


async def _passes(gauges: Gauges, demand: Demand) -> Granted | Refused:
    """The answer once a settlement that was just made has been carried out."""
    async with asyncio.timeout(5):
        number = 0
        while isinstance(answer := await gauges.admit(f"again{number}", demand), Refused):
            number += 1
            await asyncio.sleep(0.001)
    return answer


def _figures(levels: object) -> list[tuple[int, int]]:
    return [(one.spent_nanousd, one.reserved_nanousd) for one in levels]  # type: ignore[attr-defined]
