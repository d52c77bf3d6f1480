"""Sums of the log by time and lines, on both databases: what they say is what the log says."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.engine import open_engine
from gateway.ledger.faults import DatabaseUnavailable
from gateway.ledger.inserts import Inserter
from gateway.ledger.record import Record
from gateway.ledger.rows import Row, to_row
from gateway.ledger.tables import usage_caller, usage_category, usage_model
from gateway.ledger.usage import Stretch, Sums, UsageError, Where, groups, overview, stretch_of
from gateway.ledger.usage_tables import DAY_S, FINE_S, HOUR_S
from tests.integration.database.ledgers import a_record

TABLES = (usage_model, usage_category, usage_caller)
MIDNIGHT = 1_700_006_400  # 2023-11-15 00:00 UTC


async def _insert(engine: AsyncEngine, *records: Record) -> None:
    await Inserter(engine, 10.0).insert([to_row(record) for record in records])


def _now(at: float) -> Any:
    return lambda: at


async def _cells(engine: AsyncEngine) -> list[list[tuple[Any, ...]]]:
    async with engine.connect() as connection:
        found = [(await connection.execute(select(table))).all() for table in TABLES]
    return [sorted(tuple(row) for row in rows) for rows in found]


async def test_each_step_has_the_sums_of_its_requests(engine: AsyncEngine) -> None:
    now = MIDNIGHT + 12 * HOUR_S + 60
    await _insert(
        engine,
        a_record(1, at=now - 30, status=200, cost_nanousd=7, cache_status="hit-exact", saved_nanousd=5, cache_id="x"),
        a_record(2, at=now - 90, status=503, cost_nanousd=None, cache_status="miss"),
        a_record(3, at=now - 90, status=429, input_tokens=None),
        a_record(4, at=now - 2 * DAY_S),
    )

    found = await overview(engine, stretch_of("24h", _now(now)))

    assert [one.requests for one in found.points] == [0] * 22 + [2, 1]
    last, before = found.points[-1], found.points[-2]
    assert (last.cost_nanousd, last.saved_nanousd, last.cache_asked, last.cache_hits) == (7, 5, 1, 1)
    assert (before.errors, before.failures, before.cache_asked, before.input_tokens) == (2, 1, 1, 12)
    assert (found.total.requests, found.total.errors, found.total.hit_share) == (3, 2, 0.5)


async def test_times_are_within_a_bucket_of_what_they_were(engine: AsyncEngine) -> None:
    times = [1.5 * 1.01**number for number in range(800)]
    records = [
        a_record(number, at=MIDNIGHT + number, total_ms=ms, first_byte_ms=ms / 2) for number, ms in enumerate(times)
    ]
    await _insert(engine, *records)

    total = (await overview(engine, stretch_of("24h", _now(MIDNIGHT + 1)))).total

    for share, told in ((0.5, total.latency.p50_ms), (0.95, total.latency.p95_ms), (0.99, total.latency.p99_ms)):
        assert told == pytest.approx(times[int(share * len(times))], rel=0.05)
    assert total.first_byte.p50_ms == pytest.approx(times[400] / 2, rel=0.05)


async def test_the_same_request_counts_once_however_often_it_is_written(engine: AsyncEngine) -> None:
    rows = [to_row(a_record(number)) for number in range(300)]
    inserter = Inserter(engine, 10.0)
    await inserter.insert(rows[:200])
    before = await _cells(engine)

    await inserter.insert(rows[:200])
    assert await _cells(engine) == before
    await inserter.insert([*rows[150:], rows[299], rows[299]])

    whole = (await overview(engine, stretch_of("24h", _now(a_record(0).at)))).total
    assert whole.requests == 300 and whole.cost_nanousd == 300 * 5_600


async def test_of_the_same_id_twice_in_a_batch_the_one_that_was_stored_counts(engine: AsyncEngine) -> None:
    await _insert(engine, a_record(1, cost_nanousd=3), a_record(1, cost_nanousd=500))

    total = (await overview(engine, stretch_of("24h", _now(a_record(1).at)))).total

    assert (total.requests, total.cost_nanousd) == (1, 3)


async def test_two_writers_at_once_lose_nothing_and_count_nothing_twice(database_url: str, engine: AsyncEngine) -> None:
    other = open_engine(database_url)
    shared = [to_row(a_record(number, model=f"m{number % 7}")) for number in range(400)]
    batches = [(engine, shared[start : start + 80]) for start in range(0, 400, 80)]
    batches += [(other, list(reversed(shared[start : start + 80]))) for start in range(0, 400, 80)]
    batches += [
        (one, [to_row(a_record(1_000 * place + n)) for n in range(100)]) for place, one in ((1, engine), (2, other))
    ]

    async def write(one: AsyncEngine, rows: list[Row]) -> int:
        return (await Inserter(one, 20.0).insert(rows)).kept

    kept = await asyncio.gather(*(write(one, rows) for one, rows in batches))
    await other.dispose()

    total = (await overview(engine, stretch_of("24h", _now(a_record(0).at)))).total
    assert sum(kept) == 1_000
    assert (total.requests, total.cost_nanousd) == (600, 600 * 5_600)


async def test_a_batch_that_fails_adds_nothing(engine: AsyncEngine) -> None:
    good = to_row(a_record(1))
    bad = ("req_bad", *good[1:28], "no number", *good[29:])

    outcome = await Inserter(engine, 10.0).insert([good, bad] if engine.dialect.name == "postgresql" else [good])

    total = (await overview(engine, stretch_of("24h", _now(a_record(1).at)))).total
    assert outcome.kept == total.requests == 1


async def test_a_stretch_that_begins_within_a_day_counts_each_request_once(engine: AsyncEngine) -> None:
    moments = [MIDNIGHT + hour * HOUR_S + 7 for hour in range(-30, 30)]
    await _insert(engine, *(a_record(n, at=at, key_id=f"key{n % 3}") for n, at in enumerate(moments)))
    now = MIDNIGHT + 29 * HOUR_S + 10

    for period in ("24h", "7d", "30d"):
        stretch = stretch_of(period, _now(now))
        total = (await overview(engine, stretch)).total
        by_key = await groups(engine, stretch, "key_id")
        inside = sum(stretch.start <= at <= now for at in moments)

        assert total.requests == sum(one.sums.requests for one in by_key) == inside
    assert {one.name for one in by_key} == {"key0", "key1", "key2"}


async def test_the_last_hour_is_told_by_five_minutes(engine: AsyncEngine) -> None:
    now = MIDNIGHT + 0.5 * HOUR_S
    await _insert(engine, *(a_record(n, at=now - 60 * n) for n in range(90)))

    found = await overview(engine, stretch_of("1h", _now(now)))

    assert found.stretch == Stretch(int(now) - 11 * FINE_S, FINE_S, 12)
    assert [one.requests for one in found.points] == [5] * 11 + [1]
    (group,) = await groups(engine, found.stretch, "key_id")
    assert group.sums.requests == found.total.requests == 56


async def test_groups_come_greatest_first_with_the_times_of_models(engine: AsyncEngine) -> None:
    at = float(MIDNIGHT)
    await _insert(
        engine,
        a_record(1, at=at, model="cheap", endpoint="c", cost_nanousd=1, total_ms=10.0),
        a_record(2, at=at, model="dear", endpoint="d", cost_nanousd=9, total_ms=1_000.0),
        a_record(3, at=at, model=None, endpoint=None, cost_nanousd=None, total_ms=None),
    )

    found = await groups(engine, stretch_of("24h", _now(at)), "model")
    first = await groups(engine, stretch_of("24h", _now(at)), "model", order="requests", limit=2)

    assert [one.name for one in found] == ["dear", "cheap", None]
    assert found[0].sums.latency.p50_ms == pytest.approx(1_000, rel=0.25)
    assert found[2].sums.latency.p50_ms is None
    assert [one.name for one in first] == [None, "cheap"]


async def test_sums_are_narrowed_to_what_is_asked(engine: AsyncEngine) -> None:
    at = float(MIDNIGHT)
    await _insert(
        engine,
        a_record(1, at=at, policy="a", category="math", model="m", key_id="k"),
        a_record(2, at=at, policy="a", category=None, model="n", key_id="k"),
        a_record(3, at=at, policy="b", category="math", model="m", key_id="l", team_id="t"),
    )
    stretch = stretch_of("24h", _now(at))

    async def requests(**where: str) -> int:
        return (await overview(engine, stretch, Where(**where))).total.requests

    assert await requests(policy="a") == 2
    assert await requests(policy="a", category="math") == 1
    assert await requests(category="") == 1
    assert await requests(key_id="k", model="n") == 1
    assert await requests(team_id="t") == 1
    assert [one.name for one in await groups(engine, stretch, "category", Where(policy="a"))] == [None, "math"]


async def test_lines_that_no_sums_are_cut_along_are_refused_with_the_way_out(engine: AsyncEngine) -> None:
    with pytest.raises(UsageError, match="key_id, policy can't be combined here"):
        await overview(engine, stretch_of("24h"), Where(policy="a", key_id="k"))
    with pytest.raises(UsageError, match="log search"):
        await groups(engine, stretch_of("24h"), "endpoint", Where(team_id="t"))


async def test_an_upstream_that_lies_about_its_usage_does_not_break_the_sums(engine: AsyncEngine) -> None:
    records = [a_record(n, cost_nanousd=10**18, input_tokens=10**18) for n in range(50)]

    outcome = await Inserter(engine, 10.0).insert([to_row(record) for record in records])

    total = (await overview(engine, stretch_of("24h", _now(a_record(0).at)))).total
    assert outcome.kept == 50 and total.cost_nanousd == 50 * 10**12


async def test_nothing_was_asked_yet(engine: AsyncEngine) -> None:
    found = await overview(engine, stretch_of("30d"))

    assert found.total == Sums() and len(found.points) == 30
    assert (found.total.error_share, found.total.hit_share) == (None, None)
    assert await groups(engine, stretch_of("30d"), "team_id") == []


async def test_without_a_database_usage_says_so(tmp_path: Path) -> None:
    engine = open_engine("postgresql://nobody@127.0.0.1:9/nothing")

    with pytest.raises(DatabaseUnavailable):
        await overview(engine, stretch_of("24h"))
    await engine.dispose()
