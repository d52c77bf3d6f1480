"""Four worker processes with 200 streams each on one Redis, one of them killed: no budget is ever overdrawn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.ledger.engine import open_engine
from gateway.ledger.every_table import metadata
from tests.integration.admission.streams import USD, Plan
from tests.integration.admission.trial import run_trial
from tests.integration.redis_server import RedisServer, redis_running, redis_server

__all__ = ["redis_running", "redis_server"]


@pytest.fixture
async def book_url(tmp_path: Path) -> AsyncIterator[str]:
    """A database for the durable copy."""
    url = f"sqlite:///{tmp_path}/book.sqlite3"
    engine = open_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    yield url
    await engine.dispose()


@pytest.mark.slow
async def test_no_budget_is_overdrawn_and_no_reservation_leaks_while_workers_are_killed(
    redis_server: RedisServer, book_url: str, tmp_path: Path
) -> None:
    url, plan = f"{redis_server.url}#{book_url}", Plan("", "", 0, seconds=6, chunk_s=1.5)
    trial = await run_trial(url, tmp_path, killed=2, limit_nanousd=12 * USD, plan=plan)

    print(trial.summary)
    assert trial.sampled["over"] == []
    assert trial.sampled["samples"] > 100
    assert trial.sampled["fullest"] > 0.9
    assert [level.reserved_nanousd for level in trial.levels.values()] == [0] * len(trial.levels)
    assert trial.levels["all"].spent_nanousd == trial.owed_nanousd
    assert len(trial.expired) > 0
