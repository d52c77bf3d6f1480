"""Counts a database's request log anew, or compares it with the sums; a transaction for each day."""

from __future__ import annotations

from gateway.ledger.engine import open_engine, writing
from gateway.ledger.faults import asking
from gateway.ledger.rollup import Difference, days_logged, differences, missing, rebuild_day


async def recount(database_url: str) -> int:
    """How many requests were counted. Raises `DatabaseUnavailable`."""
    engine = open_engine(database_url, command_timeout_s=None)
    counted = 0
    try:
        with asking():
            async with engine.connect() as connection:
                days = await connection.run_sync(days_logged)
            for day in days:
                async with writing(engine).begin() as connection:
                    counted += await connection.run_sync(rebuild_day, day)
    finally:
        await engine.dispose()
    return counted


async def compare(database_url: str) -> list[Difference]:
    """What is wrong, each day seen as it was at one moment. Raises `DatabaseUnavailable`."""
    engine = open_engine(database_url, command_timeout_s=None)
    found: list[Difference] = []
    try:
        with asking():
            async with engine.connect() as connection:
                days = await connection.run_sync(days_logged)
            for day in days:
                async with engine.connect() as connection:
                    if engine.dialect.name == "postgresql":
                        await connection.execution_options(isolation_level="REPEATABLE READ")
                    found += await connection.run_sync(differences, day)
    finally:
        await engine.dispose()
    return found


async def uncounted(database_url: str, days: int, now: float) -> int:
    """How many requests of the last days the log has and the sums have not. Raises `DatabaseUnavailable`."""
    engine = open_engine(database_url)
    today = int(now) // 86_400 * 86_400
    try:
        with asking():
            async with engine.connect() as connection:
                wanted = range(today - (days - 1) * 86_400, today + 1, 86_400)
                return sum([abs(await connection.run_sync(missing, day)) for day in wanted])
    finally:
        await engine.dispose()
