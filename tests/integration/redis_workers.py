"""As many workers as a test wants, each with gauges of its own in one real Redis and one database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.admission.gauges import Demand, Settlement
from gateway.admission.redis_gauges import RedisGauges
from gateway.admission.rules import Budget, Period, RateLimit, Rules, Scope, Window, WindowKind
from gateway.admission.spend_book import SpendBook
from gateway.ledger.engine import open_engine
from gateway.ledger.every_table import metadata
from gateway.redis_link import RedisLink
from tests.eventually import eventually
from tests.integration.redis_server import RedisServer

BOUND_S = 0.06
SLACK_S = 0.05
TOTAL = Budget("total", Scope.KEY, "k", 1_000)
MONTH = Budget("month", Scope.TEAM, "t", 2_000, Window(WindowKind.CALENDAR, Period.MONTH))
HOUR = Budget("hour", Scope.ORGANISATION, "o", 3_000, Window(WindowKind.ROLLING, seconds=3_600))
RATE = RateLimit("rate", Scope.KEY, "k", 100, 10_000, 4)
RULES = Rules((TOTAL, MONTH, HOUR), (RATE,))
CALL = Demand(RULES, 300, 10)


@dataclass
class Workers:
    """As many workers as a test wants, on one Redis and one database."""

    url: str
    engine: AsyncEngine
    made: list[tuple[RedisGauges, RedisLink]] = field(default_factory=list)

    async def new(self, lease_s: float = 60.0) -> RedisGauges:
        link = RedisLink(self.url, BOUND_S)
        gauges = RedisGauges(link, SpendBook(self.engine), lease_s)
        await gauges.start()
        self.made.append((gauges, link))
        return gauges

    def link(self, gauges: RedisGauges) -> RedisLink:
        return next(link for one, link in self.made if one is gauges)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(f"sqlite:///{tmp_path}/book.sqlite3")
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    yield engine
    await engine.dispose()


@pytest.fixture
async def workers(redis_server: RedisServer, engine: AsyncEngine) -> AsyncIterator[Workers]:
    workers = Workers(redis_server.url, engine)
    yield workers
    redis_server.thaw()
    for gauges, link in workers.made:
        await gauges.drain(1)
        await link.close()


async def settled(gauges: RedisGauges) -> None:
    await eventually(lambda: not len(gauges._settling))


async def levels(gauges: RedisGauges) -> list[tuple[int, int]]:
    """Spent and reserved of the three budgets."""
    return [(level.spent_nanousd, level.reserved_nanousd) for level in await gauges.levels(RULES.budgets)]


async def end(gauges: RedisGauges, lease_id: str, cost: int) -> None:
    gauges.settle(Settlement(lease_id, CALL, cost, 10))
    await settled(gauges)
