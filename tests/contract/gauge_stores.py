"""The stores of budgets and limits under one roof: opened for a test, with a clock where it can be set."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from gateway.admission.gauges import Gauges, GaugesUnavailable, Level
from gateway.admission.memory_gauges import MemoryGauges
from gateway.admission.redis_gauges import RedisGauges
from gateway.admission.rules import Budget
from gateway.admission.spend_book import SpendBook
from gateway.admission.sql_gauges import SqlGauges
from gateway.ledger.engine import open_engine
from gateway.ledger.every_table import metadata
from gateway.redis_link import RedisLink
from tests.integration.redis_server import RedisServer

LEASE_S = 60.0
START_S = 1_700_000_000.0
_AGREE_S = 10.0


@dataclass(slots=True)
class Clock:
    """Wall clock and monotonic clock in one, moved by hand."""

    now_s: float = START_S

    def __call__(self) -> float:
        return self.now_s


class Store(Protocol):
    """One store under test. `others` are what further processes would open; in memory there is no other."""

    gauges: Gauges
    others: Sequence[Gauges]

    @property
    def clock(self) -> Clock | None:
        """The clock, where a test may set it."""

    def now(self) -> float:
        """Unix seconds, as the store sees them."""

    async def expire(self, lost: Collection[str], alive: Collection[str]) -> None:
        """Let the time come when nobody has renewed the lost leases and the others are renewed."""


@dataclass(slots=True)
class ClockedStore:
    """Memory or SQL: the clock is ours."""

    gauges: Gauges
    others: Sequence[Gauges]
    clock: Clock

    def now(self) -> float:
        return self.clock.now_s

    async def expire(self, lost: Collection[str], alive: Collection[str]) -> None:
        for _ in range(3):
            self.clock.now_s += LEASE_S * 0.4
            await self.gauges.renew(tuple(alive))


@dataclass(slots=True)
class RedisStore:
    """Redis keeps its own clock; what it knows of a lease's end is changed instead."""

    gauges: Gauges
    others: Sequence[Gauges]
    server: RedisServer
    clock: None = None

    def now(self) -> float:
        return time.time()

    async def expire(self, lost: Collection[str], alive: Collection[str]) -> None:
        for lease_id in lost:
            self.server.ask("ZADD", "{fp}:leases", "XX", "1", lease_id)


@asynccontextmanager
async def memory_store() -> AsyncIterator[Store]:
    """This process's memory."""
    clock = Clock()
    yield ClockedStore(MemoryGauges(now=clock, monotonic=clock, lease_s=LEASE_S), (), clock)


@asynccontextmanager
async def sql_store(url: str) -> AsyncIterator[Store]:
    """A fresh database."""
    clock = Clock()
    engine = open_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    made = [SqlGauges(engine, now=clock, monotonic=clock, lease_s=LEASE_S, timeout_s=5) for _ in range(2)]
    for gauges in made:
        await gauges.start()
    yield ClockedStore(made[0], made[1:], clock)
    for gauges in made:
        await gauges.drain(5)
    await engine.dispose()


@asynccontextmanager
async def redis_store(server: RedisServer, book_url: str) -> AsyncIterator[Store]:
    """An empty Redis, with an SQLite file for the durable copy."""
    engine = open_engine(book_url)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    links = [RedisLink(server.url, timeout_s=5.0) for _ in range(2)]
    made = [RedisGauges(link, SpendBook(engine), LEASE_S) for link in links]
    for gauges in made:
        await gauges.start()
    yield RedisStore(made[0], made[1:], server)
    for gauges in made:
        await gauges.drain(5)
    for link in links:
        await link.close()
    await engine.dispose()


async def agreed(gauges: Gauges, budgets: Sequence[Budget], fits: Callable[[Sequence[Level]], bool]) -> Sequence[Level]:
    """The levels once they are as they should be, since settlements are carried out a little later; fails after 10 s.

    No hard budget may be overspent on the way.
    """
    until = time.monotonic() + _AGREE_S
    while True:
        levels: Sequence[Level] = ()
        with suppress(GaugesUnavailable):
            levels = await gauges.levels(budgets)
        over = [one for one in levels if one.budget.hard and _used(one) > one.budget.limit_nanousd]
        assert not over, f"overspent: {over}"
        if levels and fits(levels):
            return levels
        assert time.monotonic() < until, f"these levels do not come about: {levels}"
        await asyncio.sleep(0.001)


def _used(level: Level) -> int:
    return level.spent_nanousd + level.reserved_nanousd
