"""Counting the log anew and comparing it with the sums, on both databases."""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path
from typing import Any

from sqlalchemy import case, delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.cli.rolling_up import compare, recount, uncounted
from gateway.ledger.engine import open_engine, writing
from gateway.ledger.histogram import BOUNDS_MS, bucket_of
from gateway.ledger.inserts import Inserter
from gateway.ledger.privacy import forget_fine_usage
from gateway.ledger.record import Record
from gateway.ledger.rollup import KEPT_FINE_S, TABLES
from gateway.ledger.rows import to_row
from gateway.ledger.schema import check, downgrade, upgrade
from gateway.ledger.tables import request_log, usage_model
from gateway.ledger.usage import overview, stretch_of
from gateway.ledger.usage_tables import COUNTS, DAY_S, FINE_S, FIRST_BYTE, HOUR_S, LATENCY
from gateway.ledger.writer import LedgerWriter
from tests.eventually import eventually
from tests.integration.database.ledgers import HASTY, a_record, hide_log

MIDNIGHT = 1_700_006_400


def _records(size: int, seed: int = 3) -> list[Record]:
    """Over three days, of every kind."""
    rng = random.Random(seed)
    return [
        a_record(
            seed * 100_000 + number,
            at=MIDNIGHT + rng.random() * 3 * DAY_S,
            key_id=rng.choice(["k1", "k2", None]),
            team_id=rng.choice(["t", None]),
            model=rng.choice(["m1", "m2", None]),
            category=rng.choice(["c", None]),
            status=rng.choice([200, 200, 404, 503]),
            cache_status=rng.choice(["off", "miss", "hit-exact", "bypass", "check"]),
            cost_nanousd=rng.choice([None, 5, 10**10]),
            saved_nanousd=rng.choice([None, 7]),
            total_ms=rng.choice([None, 0.2, rng.lognormvariate(6, 2)]),
            first_byte_ms=rng.choice([None, rng.lognormvariate(4, 1)]),
        )
        for number in range(size)
    ]


async def _insert(engine: AsyncEngine, records: list[Record]) -> None:
    await Inserter(engine, 20.0).insert([to_row(record) for record in records])


async def _cells(engine: AsyncEngine, least_span: int = FINE_S) -> list[set[tuple[Any, ...]]]:
    found = []
    async with engine.connect() as connection:
        for table in TABLES:
            rows = await connection.execute(select(table).where(table.c.span_s >= least_span))
            found.append({tuple(row) for row in rows})
    return found


async def test_the_sums_that_were_written_are_those_of_the_log(database_url: str, engine: AsyncEngine) -> None:
    await _insert(engine, _records(500))
    written = await _cells(engine, HOUR_S)

    assert await compare(database_url) == []
    assert await recount(database_url) == 500
    assert await _cells(engine, HOUR_S) == written


async def test_what_is_summed_is_what_sql_says_of_the_log(engine: AsyncEngine) -> None:
    await _insert(engine, _records(500))
    log, cell = request_log.c, usage_model.c
    expected = {
        "requests": func.count(),
        "errors": func.sum(case((log.status >= 400, 1), else_=0)),
        "failures": func.sum(case((log.status >= 500, 1), else_=0)),
        "cache_asked": func.sum(case((log.cache_status.in_(("miss", "hit-exact")), 1), else_=0)),
        "cache_hits": func.sum(case((log.cache_status == "hit-exact", 1), else_=0)),
        **{name: func.sum(log[name]) for name in COUNTS if name in log},
        "first_byte_20": func.sum(case((log.first_byte_ms.between(BOUNDS_MS[19], BOUNDS_MS[20]), 1), else_=0)),
        "latency_00": func.sum(case((log.total_ms < 1, 1), else_=0)),
    }

    async with engine.connect() as connection:
        logged = [int(one or 0) for one in (await connection.execute(select(*expected.values()))).one()]
        for span in (FINE_S, HOUR_S, DAY_S):
            sums = select(*(func.sum(cell[name]) for name in expected)).where(cell.span_s == span)
            summed = (await connection.execute(sums)).one()
            assert [int(one) for one in summed] == logged


async def test_sums_that_are_wrong_are_found_and_mended(database_url: str, engine: AsyncEngine) -> None:
    await _insert(engine, _records(300))
    right = await _cells(engine, HOUR_S)
    async with writing(engine).begin() as connection:
        await connection.execute(text("UPDATE usage_model SET cost_nanousd = cost_nanousd + 1 WHERE span_s = 3600"))
        await connection.execute(text("DELETE FROM usage_caller WHERE span_s = 86400"))

    wrong = await compare(database_url)

    assert {one.table for one in wrong} == {"usage_model", "usage_caller"}
    assert {one.date for one in wrong} == {"2023-11-15", "2023-11-16", "2023-11-17"}
    await recount(database_url)
    assert await compare(database_url) == [] and await _cells(engine, HOUR_S) == right


async def test_days_that_the_log_knows_no_more_keep_their_sums(database_url: str, engine: AsyncEngine) -> None:
    await _insert(engine, _records(300))
    before = await _cells(engine, HOUR_S)
    async with writing(engine).begin() as connection:
        await connection.execute(delete(request_log).where(request_log.c.at < MIDNIGHT + DAY_S))

    await recount(database_url)

    assert await _cells(engine, HOUR_S) == before and await compare(database_url) == []


async def test_rows_of_an_older_release_are_counted_at_the_upgrade(database_url: str) -> None:
    await asyncio.to_thread(upgrade, database_url)
    engine = open_engine(database_url)
    await _insert(engine, _records(300))
    before = await _cells(engine, HOUR_S)
    await asyncio.to_thread(downgrade, database_url, "0012")
    await engine.dispose()

    assert (await asyncio.to_thread(upgrade, database_url)).problem is None

    engine = open_engine(database_url)
    assert await _cells(engine, HOUR_S) == before
    assert (await asyncio.to_thread(check, database_url)).drift == ()
    await engine.dispose()


async def test_what_is_written_while_the_log_is_counted_is_counted_once(
    database_url: str, engine: AsyncEngine, tmp_path: Path
) -> None:
    await _insert(engine, _records(2_000))
    writer = LedgerWriter(engine, tmp_path / "spool", pace=HASTY)
    await writer.start()
    counting = threading.Thread(target=lambda: [asyncio.run(recount(database_url)) for _ in range(3)])

    counting.start()
    for record in _records(1_500, seed=4):
        writer.put(record)
        if int(record.id[4:]) % 50 == 0:
            await asyncio.sleep(0.005)
    await asyncio.to_thread(counting.join, 60)
    await writer.drain(20)

    assert writer.stats().dropped == writer.stats().rejected == 0
    assert await compare(database_url) == []
    whole = await overview(engine, stretch_of("30d", lambda: MIDNIGHT + 3 * DAY_S))
    assert whole.total.requests == 3_500


async def test_what_came_by_way_of_the_spool_is_counted_once(engine: AsyncEngine, tmp_path: Path) -> None:
    writer = LedgerWriter(engine, tmp_path / "spool", pace=HASTY)
    await writer.start()
    await hide_log(engine)
    for number in range(50):
        writer.put(a_record(number))
    await eventually(lambda: writer.stats().spooled >= 50)
    await hide_log(engine, hidden=False)
    await eventually(lambda: writer.stats().spool_bytes == 0)
    for number in range(50):
        writer.put(a_record(number))
    await writer.drain(10)

    total = (await overview(engine, stretch_of("24h", lambda: a_record(0).at))).total
    assert (total.requests, total.cost_nanousd) == (50, 50 * 5_600)


async def test_the_doctor_is_told_how_many_requests_the_sums_lack(database_url: str, engine: AsyncEngine) -> None:
    now = MIDNIGHT + 3.5 * DAY_S
    await _insert(engine, _records(90))
    async with writing(engine).begin() as connection:
        lost = await connection.scalar(
            select(func.sum(usage_model.c.requests)).where(
                usage_model.c.span_s == DAY_S, usage_model.c.start == MIDNIGHT + DAY_S
            )
        )
        await connection.execute(delete(usage_model).where(usage_model.c.start == MIDNIGHT + DAY_S))

    assert await uncounted(database_url, 7, now) == lost
    assert await uncounted(database_url, 1, now) == 0


async def test_five_minutes_are_forgotten_where_hours_tell_the_same(database_url: str, engine: AsyncEngine) -> None:
    await _insert(engine, _records(300))
    hours = await _cells(engine, HOUR_S)

    gone = await forget_fine_usage(engine, MIDNIGHT + DAY_S + KEPT_FINE_S)

    async with engine.connect() as connection:
        fine = usage_model.c.span_s == FINE_S
        assert await connection.scalar(select(func.min(usage_model.c.start)).where(fine)) >= MIDNIGHT + DAY_S
    assert gone > 0 and await _cells(engine, HOUR_S) == hours and await compare(database_url) == []


def test_every_bucket_has_a_column() -> None:
    assert len(LATENCY) == len(FIRST_BYTE) == len(BOUNDS_MS) + 1 == bucket_of(1e18) + 1
