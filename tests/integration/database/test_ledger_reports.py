"""Questions to the request log on both databases."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.engine import open_engine
from gateway.ledger.faults import DatabaseUnavailable
from gateway.ledger.record import Record
from gateway.ledger.reports import DAY_S, Total, by_id, recent, totals
from gateway.ledger.writer import LedgerWriter
from tests.integration.database.ledgers import a_record


async def _store(engine: AsyncEngine, folder: Path, records: Sequence[Record]) -> None:
    writer = LedgerWriter(engine, folder)
    await writer.start()
    for record in records:
        writer.put(record)
    await writer.drain(10)


async def test_the_newest_requests_come_first_and_without_their_texts(engine: AsyncEngine, tmp_path: Path) -> None:
    await _store(engine, tmp_path, [a_record(number, prompt="private") for number in range(5)])

    rows = await recent(engine, 2)

    assert [row["id"] for row in rows] == ["req_000004", "req_000003"]
    assert "prompt" not in rows[0] and rows[0]["decision"] == a_record(0).decision


async def test_one_request_is_found_whole_and_ready_for_json(engine: AsyncEngine, tmp_path: Path) -> None:
    await _store(engine, tmp_path, [a_record(1, prompt="asked")])

    row = await by_id(engine, "req_000001")

    assert row is not None and json.loads(json.dumps(row)) == row
    assert row["prompt"] == "asked" and base64.b64decode(row["embedding"]) == a_record(1).embedding


async def test_a_request_that_is_not_there_is_none(engine: AsyncEngine) -> None:
    assert await by_id(engine, "' OR 1=1 --") is None


async def test_totals_by_model_put_the_dearest_first(engine: AsyncEngine, tmp_path: Path) -> None:
    now = time.time()
    records = [
        a_record(1, at=now, model="cheap", cost_nanousd=1, status=500),
        a_record(2, at=now, model="dear", cost_nanousd=10**15),
        a_record(3, at=now, model="dear", cost_nanousd=10**15, output_tokens=None),
        a_record(4, at=now - 40 * DAY_S, model="old"),
        a_record(5, at=now, model=None, cost_nanousd=None, input_tokens=None, output_tokens=None),
    ]
    await _store(engine, tmp_path, records)

    assert await totals(engine, "model", 30) == [
        Total("dear", 2, 0, 24, 34, 0, 2 * 10**15),
        Total("cheap", 1, 1, 12, 34, 0, 1),
        Total(None, 1, 0, 0, 0, 0, 0),
    ]


async def test_a_day_begins_at_midnight_utc(engine: AsyncEngine, tmp_path: Path) -> None:
    midnight = 1_700_006_400.0  # 2023-11-15 00:00 UTC
    moments = (midnight - 0.001, midnight, midnight + DAY_S - 0.001)
    await _store(engine, tmp_path, [a_record(number, at=at) for number, at in enumerate(moments)])

    found = await totals(engine, "day", 365 * 100)

    assert [(total.group, total.requests) for total in found] == [("2023-11-15", 2), ("2023-11-14", 1)]


async def test_totals_by_key_count_each_key(engine: AsyncEngine, tmp_path: Path) -> None:
    records = [a_record(number, at=time.time(), key_id=f"key{number % 2}") for number in range(5)]
    await _store(engine, tmp_path, records)

    found = await totals(engine, "key", 1)

    assert [(total.group, total.requests) for total in found] == [("key0", 3), ("key1", 2)]


async def test_without_a_database_a_report_says_so() -> None:
    engine = open_engine("postgresql://nobody@127.0.0.1:9/nothing")

    with pytest.raises(DatabaseUnavailable, match="did not answer"):
        await recent(engine, 1)
    await engine.dispose()
