"""The SQL ledger on real databases that work."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.engine import open_engine
from gateway.ledger.record import Child, Record
from gateway.ledger.reports import by_id
from gateway.ledger.schema import upgrade
from gateway.ledger.writer import LedgerWriter, Pace
from tests.eventually import eventually
from tests.integration.database.ledgers import HASTY, a_record, forbid_model, hide_log, stored, stored_ids


@pytest.fixture
async def writer(engine: AsyncEngine, tmp_path: Path) -> AsyncIterator[LedgerWriter]:
    """A started writer."""
    writer = LedgerWriter(engine, tmp_path / "spool", pace=HASTY)
    await writer.start()
    yield writer
    await writer.drain(5)


async def test_what_is_put_stands_in_the_database(writer: LedgerWriter, engine: AsyncEngine) -> None:
    writer.put(a_record(1))

    await eventually(lambda: writer.stats().written == 1)

    row = await stored(engine, "req_000001")
    record = a_record(1)
    assert row == {name: getattr(record, name) for name in Record.__slots__ if name != "children"}


async def test_a_drain_stores_every_record_that_was_put(writer: LedgerWriter, engine: AsyncEngine) -> None:
    records = [a_record(number) for number in range(3_456)]
    for record in records:
        writer.put(record)

    await writer.drain(20)

    assert await stored_ids(engine) == [record.id for record in records]
    assert writer.stats().queued == writer.stats().dropped == writer.stats().spool_bytes == 0


async def test_an_idle_ledger_leaves_no_folder_behind(engine: AsyncEngine, tmp_path: Path) -> None:
    writer = LedgerWriter(engine, tmp_path / "spool", pace=HASTY)
    await writer.start()

    await writer.drain(5)

    assert [path for path in (tmp_path / "spool").iterdir() if path.is_dir()] == []


async def test_the_same_id_is_stored_once(writer: LedgerWriter, engine: AsyncEngine) -> None:
    for answer in ("first", "second"):
        writer.put(a_record(1, answer=answer))

    await writer.drain(5)

    assert await stored_ids(engine) == ["req_000001"]
    assert (await stored(engine, "req_000001"))["answer"] == "first"


async def test_a_row_that_the_database_refuses_does_not_hold_back_the_rest(
    writer: LedgerWriter, engine: AsyncEngine, tmp_path: Path
) -> None:
    await forbid_model(engine, "poison")
    for number in range(100):
        writer.put(a_record(number, model="poison" if number in (0, 41, 42, 99) else "fine"))

    await writer.drain(20)

    assert len(await stored_ids(engine)) == 96
    assert (writer.stats().rejected, writer.stats().written) == (4, 96)
    assert "req_000041" in (tmp_path / "spool" / "rejected.jsonl").read_text()


async def test_a_record_of_wrong_types_is_put_aside(writer: LedgerWriter, engine: AsyncEngine, tmp_path: Path) -> None:
    writer.put(a_record(1, model=object()))
    writer.put(a_record(2))

    await writer.drain(5)

    assert await stored_ids(engine) == ["req_000002"]
    assert "model: text expected" in (tmp_path / "spool" / "rejected.jsonl").read_text()


async def test_what_strangers_send_is_storable(writer: LedgerWriter, engine: AsyncEngine) -> None:
    odd = {"a\0": "\ud800", "n": float("nan"), "big": 2**70}
    record = a_record(1, prompt="NUL \0, half \udc00", features=odd, cost_nanousd=2**90, route_ms=float("inf"))
    writer.put(record)

    await writer.drain(5)

    row = await stored(engine, "req_000001")
    assert row["prompt"] == "NUL \ufffd, half \ufffd"
    assert row["features"]["a\ufffd"] == "\ufffd" and row["features"]["n"] is None
    assert (row["cost_nanousd"], row["route_ms"]) == (10**15, None)


async def test_over_its_bound_the_queue_drops_the_newest_and_counts_them(engine: AsyncEngine, tmp_path: Path) -> None:
    writer = LedgerWriter(engine, tmp_path / "spool", pace=Pace(max_queue=10, flush_s=0.01))
    for number in range(13):
        writer.put(a_record(number))
    dropped_at_once = writer.stats().dropped
    await writer.start()

    await writer.drain(5)

    assert dropped_at_once == 3
    assert await stored_ids(engine) == [f"req_{number:06d}" for number in range(10)]


async def test_long_prompts_count_against_the_queue_in_characters(engine: AsyncEngine, tmp_path: Path) -> None:
    writer = LedgerWriter(engine, tmp_path / "spool", pace=Pace(max_queue_chars=1_000))

    for number in range(5):
        writer.put(a_record(number, prompt="x" * 600))

    assert (writer.stats().queued, writer.stats().dropped) == (2, 3)


async def test_what_comes_after_the_drain_is_counted_as_dropped(writer: LedgerWriter) -> None:
    await writer.drain(5)

    writer.put(a_record(1))

    assert (writer.stats().queued, writer.stats().dropped) == (0, 1)


async def test_two_writers_share_one_spool_root_and_one_database(engine: AsyncEngine, tmp_path: Path) -> None:
    writers = [LedgerWriter(engine, tmp_path / "spool", pace=HASTY) for _ in range(2)]
    await asyncio.gather(*(writer.start() for writer in writers))
    for number in range(2_000):
        writers[number % 2].put(a_record(number))

    await asyncio.gather(*(writer.drain(20) for writer in writers))

    assert len(await stored_ids(engine)) == 2_000


_PROCESS = """
import asyncio, sys
from pathlib import Path
from gateway.ledger.engine import open_engine
from gateway.ledger.writer import LedgerWriter
from tests.integration.database.ledgers import HASTY, a_record

async def main(url, folder, first):
    engine = open_engine(url)
    writer = LedgerWriter(engine, Path(folder), pace=HASTY)
    await writer.start()
    for number in range(first, first + 2000):
        writer.put(a_record(number))
        if number % 50 == 0:
            await asyncio.sleep(0.001)
    await writer.drain(30)
    await engine.dispose()
    print(writer.stats().written, writer.stats().dropped)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


async def test_two_processes_fill_one_sqlite_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.sqlite3"
    await asyncio.to_thread(upgrade, url)
    root = Path(__file__).parents[3]

    running = [
        subprocess.Popen(
            [sys.executable, "-c", _PROCESS, url, str(tmp_path / "spool"), str(first)],
            stdout=subprocess.PIPE,
            cwd=root,
        )
        for first in (0, 2_000)
    ]
    said = [await asyncio.to_thread(process.communicate) for process in running]

    engine = open_engine(url)
    assert len(await stored_ids(engine)) == 4_000
    await engine.dispose()
    assert [out for out, _ in said] == [b"2000 0\n", b"2000 0\n"]


async def test_the_calls_of_a_strategy_stand_beside_their_request_once(
    writer: LedgerWriter, engine: AsyncEngine
) -> None:
    children = [Child("req_000001", seq, "sample", cost_nanousd=7, signals={"score": 0.5}) for seq in range(3)]
    for _ in range(2):
        writer.put(a_record(1, strategy="vote", children=children))

    await writer.drain(5)

    found = await by_id(engine, "req_000001")
    assert found is not None and found["strategy"] == "vote"
    assert [(one["seq"], one["cost_nanousd"], one["signals"]) for one in found["children"]] == [
        (0, 7, {"score": 0.5}),
        (1, 7, {"score": 0.5}),
        (2, 7, {"score": 0.5}),
    ]


async def test_calls_wait_on_disk_with_their_request_while_the_database_is_away(
    writer: LedgerWriter, engine: AsyncEngine
) -> None:
    await hide_log(engine)
    writer.put(a_record(1, children=[Child("req_000001", 0, "racer")]))
    await eventually(lambda: writer.stats().spooled >= 2)

    await hide_log(engine, hidden=False)
    await eventually(lambda: writer.stats().spool_bytes == 0)

    found = await by_id(engine, "req_000001")
    assert found is not None and [one["role"] for one in found["children"]] == ["racer"]
