"""The audit log on both databases: whole under many writers, broken by any change, append-only."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from sqlalchemy import insert, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.acts import Change, acting
from gateway.ledger.audit import GENESIS, AuditLog, entry_hash
from gateway.ledger.engine import open_engine
from gateway.ledger.faults import DatabaseUnavailable
from gateway.ledger.tables import audit_log, change

WRITER = """
import asyncio, sys
from gateway.ledger.acts import Change, acting
from gateway.ledger.engine import open_engine
async def main():
    engine = open_engine(sys.argv[1])
    async def one(number):
        async with acting(engine, f"writer {sys.argv[2]}") as act:
            await act.done("test", str(number), {"n": number}, Change("key", str(number)))
    await asyncio.gather(*(one(number) for number in range(25)))
    await engine.dispose()
asyncio.run(main())
"""


async def write(engine: AsyncEngine, *subjects: str) -> None:
    """An act for each subject."""
    for subject in subjects:
        async with acting(engine, "ann") as act:
            await act.done("key.issue", subject, {"name": "ü \ud800\0 \u2028"})


async def without_triggers(engine: AsyncEngine) -> None:
    """What somebody must do first who wants to change history."""
    drop = {
        "sqlite": [f"DROP TRIGGER audit_log_no_{one}" for one in ("update", "delete", "replace")],
        "postgresql": ["DROP TRIGGER audit_log_append_only ON audit_log"],
    }
    async with engine.begin() as connection:
        for statement in drop[engine.dialect.name]:
            await connection.execute(text(statement))


async def test_an_empty_log_and_a_written_one_are_sound(engine: AsyncEngine) -> None:
    log = AuditLog(engine)
    empty = await log.verify()
    await write(engine, "a", "b", "c")

    verdict = await log.verify(empty.head_sha256)
    newest, *older = await log.list(2)

    assert (empty.rows, empty.head_sha256, empty.sound) == (0, GENESIS, True)
    assert (verdict.rows, verdict.head_sha256, verdict.sound) == (3, newest.sha256, True)
    assert [one.subject for one in (newest, *older)] == ["c", "b"]
    assert [one.subject for one in await log.list(10, before_id=older[0].id)] == ["a"]


async def test_many_processes_write_one_chain(engine: AsyncEngine, database_url: str) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", WRITER, database_url, str(number)], stderr=subprocess.PIPE)
        for number in range(3)
    ]
    said = await asyncio.gather(*(asyncio.to_thread(process.communicate) for process in running))

    verdict = await AuditLog(engine).verify()
    async with engine.connect() as connection:
        ids = (await connection.execute(change.select().order_by(change.c.id))).scalars().all()

    assert [errors for _, errors in said] == [b""] * 3
    assert (verdict.rows, verdict.sound) == (75, True)
    assert list(ids) == list(range(ids[0], ids[0] + 75))


@pytest.mark.parametrize("field", ["at", "actor", "action", "subject", "detail", "sha256", "previous_sha256"])
async def test_a_changed_row_is_found(engine: AsyncEngine, field: str) -> None:
    await write(engine, "a", "b", "c")
    await without_triggers(engine)
    async with engine.begin() as connection:
        new = 1.5 if field == "at" else "f" * 64
        await connection.execute(update(audit_log).where(audit_log.c.subject == "b").values({field: new}))

    verdict = await AuditLog(engine).verify()

    assert (verdict.rows, verdict.broken_id, verdict.sound) == (1, 2, False)


async def test_a_removed_row_is_found_and_a_lost_end_by_a_noted_hash(engine: AsyncEngine) -> None:
    log = AuditLog(engine)
    await write(engine, "a", "b", "c")
    noted = (await log.verify()).head_sha256
    await without_triggers(engine)

    async with engine.begin() as connection:
        await connection.execute(audit_log.delete().where(audit_log.c.subject == "c"))
    assert (await log.verify()).sound
    assert "cut off" in (await log.verify(noted)).reason

    async with engine.begin() as connection:
        await connection.execute(audit_log.delete().where(audit_log.c.subject == "a"))
    assert (await log.verify()).broken_id == 2


async def test_a_forged_row_with_a_right_hash_can_not_be_put_in_between(engine: AsyncEngine) -> None:
    await write(engine, "a", "b")
    first = (await AuditLog(engine).list())[1]
    fields = (first.sha256, 1.0, "eve", "key.issue", "x", "{}")
    names = ("previous_sha256", "at", "actor", "action", "subject", "detail")
    forged = dict(zip(names, fields, strict=True)) | {"sha256": entry_hash(*fields)}

    with pytest.raises(DBAPIError):
        async with engine.begin() as connection:
            await connection.execute(insert(audit_log).values(**forged))

    assert (await AuditLog(engine).verify()).rows == 2


async def test_an_act_that_fails_leaves_no_trace(engine: AsyncEngine) -> None:
    async def fail() -> None:
        async with acting(engine, "ann") as act:
            await act.done("key.issue", "a", {}, Change("key", "a"))
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await fail()

    assert (await AuditLog(engine).verify()).rows == 0


async def test_without_a_database_it_says_so() -> None:
    engine = open_engine("postgresql://nobody@127.0.0.1:9/nothing")

    with pytest.raises(DatabaseUnavailable):
        await AuditLog(engine).verify()
    with pytest.raises(DatabaseUnavailable):
        await write(engine, "a")
    await engine.dispose()
