"""The SQL ledger while its database is away: nothing lost, nothing doubled, nothing waits."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.engine import open_engine
from gateway.ledger.schema import upgrade
from gateway.ledger.writer import LedgerWriter, Pace
from tests.eventually import eventually
from tests.integration.database.ledgers import HASTY, a_record, forbid_model, hide_log, stored_ids
from tests.integration.postgres import PostgresServer


async def test_records_wait_on_disk_and_arrive_in_order(engine: AsyncEngine, tmp_path: Path) -> None:
    await hide_log(engine)
    writer = LedgerWriter(engine, tmp_path / "spool", pace=HASTY)
    await writer.start()
    for number in range(2_500):
        writer.put(a_record(number))
    await eventually(lambda: writer.stats().spooled == 2_500)
    during = writer.stats()

    await hide_log(engine, hidden=False)
    await eventually(lambda: writer.stats().written == 2_500)
    await writer.drain(5)

    assert not during.database_up and during.spool_bytes > 0 and during.queued == 0
    assert await stored_ids(engine) == [f"req_{number:06d}" for number in range(2_500)]
    assert writer.stats().database_up and writer.stats().spool_bytes == 0


async def test_new_records_go_on_beside_a_long_replay(engine: AsyncEngine, tmp_path: Path) -> None:
    await hide_log(engine)
    writer = LedgerWriter(engine, tmp_path / "spool", pace=HASTY)
    await writer.start()
    for number in range(5_000):
        writer.put(a_record(number))
    await eventually(lambda: writer.stats().spooled == 5_000)

    await hide_log(engine, hidden=False)
    await eventually(lambda: writer.stats().written > 0)
    writer.put(a_record(9_999))
    await eventually(lambda: writer.stats().queued == 0)

    assert writer.stats().spool_bytes > 0
    assert (await stored_ids(engine))[-1] == "req_009999"
    await writer.drain(20)
    assert len(await stored_ids(engine)) == 5_001


async def test_a_drain_without_a_database_leaves_all_to_the_next_process(engine: AsyncEngine, tmp_path: Path) -> None:
    await hide_log(engine)
    first = LedgerWriter(engine, tmp_path / "spool", pace=HASTY)
    await first.start()
    for number in range(700):
        first.put(a_record(number))
    await first.drain(5)

    await hide_log(engine, hidden=False)
    second = LedgerWriter(engine, tmp_path / "spool", pace=HASTY)
    await second.start()
    await second.drain(10)

    assert await stored_ids(engine) == [f"req_{number:06d}" for number in range(700)]
    assert (first.stats().spooled, second.stats().written) == (700, 700)


async def test_a_poison_row_in_the_spool_does_not_hold_back_the_rest(engine: AsyncEngine, tmp_path: Path) -> None:
    await forbid_model(engine, "poison")
    await hide_log(engine)
    writer = LedgerWriter(engine, tmp_path / "spool", pace=HASTY)
    await writer.start()
    for number in range(50):
        writer.put(a_record(number, model="poison" if number == 7 else "fine"))
    await eventually(lambda: writer.stats().spooled == 50)

    await hide_log(engine, hidden=False)
    await eventually(lambda: writer.stats().written + writer.stats().rejected == 50)
    await writer.drain(5)

    assert len(await stored_ids(engine)) == 49
    assert writer.stats().rejected == 1


async def test_over_its_bound_the_spool_keeps_the_oldest(engine: AsyncEngine, tmp_path: Path) -> None:
    await hide_log(engine)
    writer = LedgerWriter(engine, tmp_path / "spool", spool_max_bytes=50_000, pace=HASTY)
    await writer.start()
    for number in range(300):
        writer.put(a_record(number))
    await eventually(lambda: writer.stats().spooled + writer.stats().dropped == 300)

    await hide_log(engine, hidden=False)
    await eventually(lambda: writer.stats().spool_bytes == 0)
    await writer.drain(5)

    kept = writer.stats().spooled
    assert 0 < kept < 300
    assert await stored_ids(engine) == [f"req_{number:06d}" for number in range(kept)]


async def test_a_disk_that_refuses_costs_records_but_not_the_ledger(engine: AsyncEngine, tmp_path: Path) -> None:
    await hide_log(engine)
    writer = LedgerWriter(engine, tmp_path / "spool", pace=HASTY)
    await writer.start()
    (folder,) = (path for path in (tmp_path / "spool").iterdir() if path.is_dir())
    folder.rename(tmp_path / "gone")
    writer.put(a_record(1))
    await eventually(lambda: writer.stats().dropped == 1)

    (tmp_path / "gone").rename(folder)
    writer.put(a_record(2))
    await eventually(lambda: writer.stats().spooled == 1)
    await hide_log(engine, hidden=False)
    await eventually(lambda: writer.stats().written == 1)
    await writer.drain(5)

    assert await stored_ids(engine) == ["req_000002"]


_KILLED = """
import asyncio, sys
from pathlib import Path
from gateway.ledger.engine import open_engine
from gateway.ledger.writer import LedgerWriter
from tests.eventually import eventually
from tests.integration.database.ledgers import HASTY, a_record

async def main(url, folder):
    writer = LedgerWriter(open_engine(url), Path(folder), pace=HASTY)
    await writer.start()
    for number in range(400):
        writer.put(a_record(number))
    await eventually(lambda: writer.stats().spooled == 400)
    print("spooled", flush=True)
    await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_the_spool_of_a_killed_process_is_adopted_and_its_torn_line_counted(
    engine: AsyncEngine, database_url: str, tmp_path: Path
) -> None:
    await hide_log(engine)
    command = [sys.executable, "-c", _KILLED, database_url, str(tmp_path / "spool")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        process.send_signal(signal.SIGKILL)
    (segment,) = (tmp_path / "spool").glob("*/*.jsonl")
    with segment.open("ab") as file:
        file.write(b'{"id":"req_000400","at":17')

    await hide_log(engine, hidden=False)
    writer = LedgerWriter(engine, tmp_path / "spool", pace=HASTY)
    await writer.start()
    await writer.drain(10)

    assert await stored_ids(engine) == [f"req_{number:06d}" for number in range(400)]
    assert (writer.stats().torn, writer.stats().spool_bytes) == (1, 0)


async def test_500_records_survive_a_postgres_that_is_killed_under_load(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    await asyncio.to_thread(upgrade, postgres_url)
    engine = open_engine(postgres_url)
    writer = LedgerWriter(engine, tmp_path / "spool", pace=HASTY)
    await writer.start()
    feed = asyncio.create_task(_feed(writer, range(500)))
    await eventually(lambda: writer.stats().written >= 100)

    postgres_server.stop()
    await feed
    await eventually(lambda: not writer.stats().database_up and writer.stats().queued == 0)
    spooled = writer.stats().spooled
    await asyncio.to_thread(postgres_server.start)
    await eventually(lambda: writer.stats().database_up and writer.stats().spool_bytes == 0)
    await writer.drain(5)

    assert spooled > 0
    assert await stored_ids(engine) == [f"req_{number:06d}" for number in range(500)]
    assert writer.stats().dropped == 0
    await engine.dispose()


async def test_a_drain_from_a_database_that_hangs_ends_in_time_with_all_on_disk(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    await asyncio.to_thread(upgrade, postgres_url)
    engine = open_engine(postgres_url)
    writer = LedgerWriter(engine, tmp_path / "spool", pace=Pace(batch_rows=100))
    await writer.start()
    writer.put(a_record(0))
    await eventually(lambda: writer.stats().written == 1)
    postgres_server.freeze()
    try:
        for number in range(1, 301):
            writer.put(a_record(number))
        async with asyncio.timeout(10):
            await writer.drain(0.5)
    finally:
        postgres_server.thaw()

    assert (writer.stats().spooled, writer.stats().dropped) == (300, 0)
    await engine.dispose()


async def test_a_postgres_that_hangs_is_taken_for_away(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    await asyncio.to_thread(upgrade, postgres_url)
    engine = open_engine(postgres_url)
    writer = LedgerWriter(engine, tmp_path / "spool", pace=replace(HASTY, write_timeout_s=0.3))
    await writer.start()
    writer.put(a_record(1))
    await eventually(lambda: writer.stats().written == 1)

    postgres_server.freeze()
    try:
        writer.put(a_record(2))
        await eventually(lambda: writer.stats().spooled == 1)
    finally:
        postgres_server.thaw()
    await eventually(lambda: writer.stats().written == 2)

    await writer.drain(10)
    assert await stored_ids(engine) == ["req_000001", "req_000002"]
    await engine.dispose()


async def test_a_dead_database_at_the_start_stops_nothing(tmp_path: Path) -> None:
    engine = open_engine("postgresql://nobody@127.0.0.1:9/nothing")
    writer = LedgerWriter(engine, tmp_path / "spool", pace=HASTY)
    await writer.start()
    await eventually(lambda: not writer.stats().database_up)

    writer.put(a_record(1))
    await writer.drain(5)

    assert (writer.stats().spooled, writer.stats().dropped) == (1, 0)
    await engine.dispose()


@pytest.mark.parametrize("busy_timeout_s", [0, 1])
async def test_an_sqlite_file_that_another_process_holds_locked_is_away_until_it_is_free(
    tmp_path: Path, busy_timeout_s: int
) -> None:
    path = tmp_path / "held.sqlite3"
    await asyncio.to_thread(upgrade, f"sqlite:///{path}")
    engine = open_engine(f"sqlite:///{path}", busy_timeout_s)
    writer = LedgerWriter(engine, tmp_path / "spool", pace=replace(HASTY, write_timeout_s=0.3))
    await writer.start()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    writer.put(a_record(1))
    await eventually(lambda: writer.stats().spooled == 1)

    holder.execute("ROLLBACK")
    holder.close()
    await eventually(lambda: writer.stats().written == 1)

    await writer.drain(5)
    assert await stored_ids(engine) == ["req_000001"]
    await engine.dispose()


async def test_put_does_not_wait_for_a_database_that_hangs(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    await asyncio.to_thread(upgrade, postgres_url)
    engine = open_engine(postgres_url)
    writer = LedgerWriter(engine, tmp_path / "spool", pace=HASTY)
    await writer.start()
    writer.put(a_record(10_000))
    await eventually(lambda: writer.stats().written == 1)
    postgres_server.freeze()
    try:
        records = [a_record(number) for number in range(10_000)]
        before = time.process_time()
        for record in records:
            writer.put(record)
        spent_s = time.process_time() - before
    finally:
        postgres_server.thaw()

    assert spent_s < 0.2  # of CPU: 20 microseconds each, far over what it takes
    await writer.drain(30)
    assert len(await stored_ids(engine)) == 10_001
    await engine.dispose()


async def _feed(writer: LedgerWriter, numbers: range) -> None:
    for number in numbers:
        writer.put(a_record(number))
        if number % 10 == 0:
            await asyncio.sleep(0.01)
