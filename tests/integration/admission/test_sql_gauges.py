"""Budgets in SQL when the database is away, hangs or comes back, and when clocks are set."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.admission.gauges import Demand, Gauges, GaugesUnavailable, Granted, Level, Settlement
from gateway.admission.rules import Budget, RateLimit, Rules, Scope, Window, WindowKind
from gateway.admission.sql_gauges import SqlGauges
from gateway.ledger.engine import open_engine
from gateway.ledger.every_table import metadata
from gateway.ledger.tables import budget_spend
from tests.contract.gauge_stores import Clock, agreed
from tests.integration.postgres import PostgresServer, postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]

BUDGET = Budget("budget", Scope.KEY, "k", 1_000)
DEMAND = Demand(Rules((BUDGET,), (RateLimit("limit", Scope.KEY, "k", concurrent_requests=1),)), 100, 0)
HOURLY = Demand(Rules((Budget("hourly", Scope.KEY, "k", 10**9, Window(WindowKind.ROLLING, seconds=3_600)),)), 1, 0)


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine on PostgreSQL with all tables."""
    async with _engine(postgres_url) as engine:
        yield engine


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """An engine on an SQLite file with all tables."""
    async with _engine(f"sqlite:///{tmp_path}/budgets.sqlite3") as engine:
        yield engine


async def test_a_call_without_budgets_never_touches_the_database() -> None:
    engine = open_engine("postgresql://nobody@127.0.0.1:9/nothing")
    demand = Demand(Rules((), DEMAND.rules.limits), 5, 5)
    async with _started(SqlGauges(engine, timeout_s=0.2)) as gauges:
        assert isinstance(await gauges.admit("a", demand), Granted)
        assert await gauges.extend("a", demand, 10**6) is True
        await gauges.renew(["a"])
        assert isinstance(await gauges.admit("b", demand, replacing="a"), Granted)
        gauges.settle(Settlement("b", demand, 5, 5))
        assert isinstance(await gauges.admit("c", demand), Granted)


async def test_a_database_that_hangs_holds_nobody_up_and_nothing_is_lost(
    postgres: AsyncEngine, postgres_server: PostgresServer
) -> None:
    async with _started(SqlGauges(postgres, timeout_s=0.3)) as gauges:
        await gauges.admit("a", DEMAND)
        postgres_server.freeze()
        try:
            gauges.settle(Settlement("a", DEMAND, 70, 0))
            first_s, first = await _refusal(gauges, "b")
            second_s, second = await _refusal(gauges, "c")
        finally:
            postgres_server.thaw()
        assert first_s < 1 and first.asked is True
        assert second_s < 0.05 and second.asked is False
        await agreed(gauges, [BUDGET], _stands(70, 0))
        assert isinstance(await gauges.admit("d", DEMAND), Granted)


async def test_an_admission_whose_answer_was_lost_can_be_undone(
    postgres: AsyncEngine, postgres_server: PostgresServer
) -> None:
    async with _started(SqlGauges(postgres, timeout_s=0.3)) as gauges:
        gauges.settle(Settlement("first", DEMAND, 1, 0))
        await agreed(gauges, [BUDGET], _stands(1, 0))
        postgres_server.freeze()
        try:
            await _refusal(gauges, "a")
            gauges.settle(Settlement("a", DEMAND, 0, 0))
        finally:
            postgres_server.thaw()
        await agreed(gauges, [BUDGET], _stands(1, 0))
        assert isinstance(await gauges.admit("b", DEMAND), Granted)


async def test_a_restart_of_an_idle_database_is_not_noticed(
    postgres: AsyncEngine, postgres_server: PostgresServer
) -> None:
    async with _started(SqlGauges(postgres)) as gauges:
        await gauges.admit("a", DEMAND)
        postgres_server.stop()
        postgres_server.start()

        gauges.settle(Settlement("a", DEMAND, 70, 0))
        assert isinstance(await gauges.admit("b", DEMAND), Granted)
        await agreed(gauges, [BUDGET], _stands(70, 100))


async def test_a_step_that_the_database_refuses_spoils_no_other(postgres: AsyncEngine) -> None:
    demands = [Demand(Rules((BUDGET,)), 100, 0) for _ in range(5)]
    async with _started(SqlGauges(postgres)) as gauges:
        asked = (
            gauges.admit(f"lease{number}\0" if number == 2 else f"lease{number}", demands[number])
            for number in range(5)
        )
        answers = await asyncio.gather(*asked, return_exceptions=True)

        assert [isinstance(answer, Granted) for answer in answers] == [True, True, False, True, True]
        assert isinstance(answers[2], GaugesUnavailable)
        await agreed(gauges, [BUDGET], _stands(0, 400))


async def test_what_has_ended_unseen_cannot_begin_any_more(sqlite: AsyncEngine) -> None:
    async with _started(SqlGauges(sqlite)) as gauges:
        gauges.settle(Settlement("a", DEMAND, 0, 0))

        with pytest.raises(GaugesUnavailable):
            await gauges.admit("a", DEMAND)
        await agreed(gauges, [BUDGET], _stands(0, 0))


async def test_nothing_is_reaped_until_all_had_time_to_renew_when_the_clock_has_jumped(sqlite: AsyncEngine) -> None:
    wall, monotonic = Clock(), Clock()
    async with _started(SqlGauges(sqlite, now=wall, monotonic=monotonic, lease_s=60)) as gauges:
        await gauges.admit("alive", DEMAND)
        await gauges.admit("dead", Demand(Rules((BUDGET,)), 30, 0))
        wall.now_s += 10_000
        assert await gauges.reap() == []
        for _ in range(2):
            wall.now_s, monotonic.now_s = wall.now_s + 31, monotonic.now_s + 31
            await gauges.renew(["alive"])

        assert [one.lease_id for one in await gauges.reap()] == ["dead"]
        assert await gauges.extend("alive", DEMAND, 1) is True


async def test_a_clock_that_is_set_back_keeps_no_dead_lease_alive(sqlite: AsyncEngine) -> None:
    wall, monotonic = Clock(), Clock()
    async with _started(SqlGauges(sqlite, now=wall, monotonic=monotonic, lease_s=60)) as gauges:
        await gauges.admit("dead", DEMAND)
        wall.now_s -= 1_000_000
        found = [await gauges.reap()]
        for _ in range(3):
            wall.now_s, monotonic.now_s = wall.now_s + 61, monotonic.now_s + 61
            found.append(await gauges.reap())

        assert [len(expired) for expired in found].count(1) == 1 and found[3] == []


async def test_processes_on_one_sqlite_file_do_not_overspend(sqlite: AsyncEngine, tmp_path: Path) -> None:
    demand = Demand(Rules((BUDGET,)), 10, 0)
    async with (
        _engine(f"sqlite:///{tmp_path}/budgets.sqlite3") as other,
        _started(SqlGauges(sqlite)) as first,
        _started(SqlGauges(other)) as second,
    ):
        both = (first, second)
        answers = await asyncio.gather(*(both[number % 2].admit(f"{number}", demand) for number in range(300)))

        assert sum(isinstance(answer, Granted) for answer in answers) == 100
        await agreed(second, [BUDGET], _stands(0, 1_000))


async def test_calls_that_know_a_budget_with_different_windows_are_all_answered(sqlite: AsyncEngine) -> None:
    windows = (Window(), Window(WindowKind.ROLLING, seconds=600), Window(), Window(WindowKind.ROLLING, seconds=60))
    demands = [Demand(Rules((replace(BUDGET, window=window),)), 100, 0) for window in windows]
    async with _started(SqlGauges(sqlite)) as gauges:
        asked = (gauges.admit(f"{number}", demand) for number, demand in enumerate(demands))
        answers = [*await asyncio.gather(*asked), await gauges.admit("4", demands[0], replacing="1")]

        assert all(isinstance(answer, Granted) for answer in answers)
        await agreed(gauges, [BUDGET], _stands(0, 400))


async def test_buckets_that_no_longer_count_are_removed(sqlite: AsyncEngine) -> None:
    clock = Clock()
    async with _started(SqlGauges(sqlite, now=clock, monotonic=clock)) as gauges:
        for number in range(200):
            clock.now_s += 60
            await gauges.admit(f"{number}", HOURLY)
            gauges.settle(Settlement(f"{number}", HOURLY, 1, 0))
        await agreed(gauges, HOURLY.rules.budgets, _stands(61, 0))
    async with sqlite.connect() as connection:
        rows = (await connection.execute(select(func.count()).select_from(budget_spend))).scalar_one()
    assert 61 <= rows <= 62


@asynccontextmanager
async def _engine(url: str) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    yield engine
    await engine.dispose()


@asynccontextmanager
async def _started(gauges: SqlGauges) -> AsyncIterator[SqlGauges]:
    await gauges.start()
    yield gauges
    await gauges.drain(5)


async def _refusal(gauges: Gauges, lease_id: str) -> tuple[float, GaugesUnavailable]:
    """How long it took until the store said that it is away, and the error."""
    begun = time.monotonic()
    with pytest.raises(GaugesUnavailable) as caught:
        await gauges.admit(lease_id, DEMAND)
    return time.monotonic() - begun, caught.value


def _stands(spent: int, reserved: int) -> Callable[[Sequence[Level]], bool]:
    return lambda levels: [(one.spent_nanousd, one.reserved_nanousd) for one in levels] == [(spent, reserved)]
