"""The durable copy of what was spent, in both databases."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.admission.spend_book import SpendBook
from gateway.ledger.engine import open_engine
from gateway.ledger.faults import DatabaseUnavailable
from gateway.ledger.tables import budget_spend
from tests.eventually import eventually

ALL = {"a": 0, "b": 0}


async def test_what_was_added_is_read_at_once_and_after_a_flush(engine: AsyncEngine) -> None:
    book = SpendBook(engine)
    for nanousd in (5, 7):
        book.add("a", 60, nanousd)
    book.add("b", 0, 2**62)

    at_once = await book.read(ALL)
    assert await book.flush()
    book.add("a", 60, -2)

    assert at_once == {"a": {60: 12}, "b": {0: 2**62}}
    assert await book.read(ALL) == {"a": {60: 10}, "b": {0: 2**62}}


async def test_two_books_add_up(engine: AsyncEngine) -> None:
    books = [SpendBook(engine) for _ in range(4)]
    for book in books:
        for number in range(300):
            book.add(f"budget{number}", 0, 1)

    assert await asyncio.gather(*(book.flush() for book in books)) == [True] * 4

    async with engine.connect() as connection:
        rows = (await connection.execute(select(budget_spend))).all()
    assert [row.spent_nanousd for row in rows] == [4] * 300


async def test_only_buckets_from_the_one_named_are_read(engine: AsyncEngine) -> None:
    book = SpendBook(engine)
    for bucket in (0, 60, 120):
        book.add("a", bucket, 1)
    await book.flush()
    book.add("a", 0, 1)
    book.add("a", 180, 1)

    assert await book.read({"a": 60, "nobody": 0}) == {"a": {60: 1, 120: 1, 180: 1}, "nobody": {}}


async def test_old_buckets_are_dropped_with_the_next_flush(engine: AsyncEngine) -> None:
    book = SpendBook(engine)
    for bucket in (0, 60, 120):
        book.add("a", bucket, 1)
        book.add("b", bucket, 1)
    await book.flush()
    book.forget("a", 120)
    await book.flush()

    assert await book.read(ALL) == {"a": {120: 1}, "b": {0: 1, 60: 1, 120: 1}}


async def test_a_started_book_writes_by_itself_and_a_drained_one_has_written_all(engine: AsyncEngine) -> None:
    book = SpendBook(engine, flush_s=0.01)
    await book.start()
    book.add("a", 0, 1)

    async def written() -> bool:
        return (await SpendBook(engine).read(ALL))["a"] == {0: 1}

    await eventually(written)
    book.add("a", 0, 1)

    await book.drain(5)

    assert (await SpendBook(engine).read(ALL))["a"] == {0: 2}


async def test_sums_wait_in_memory_while_the_database_is_away(engine: AsyncEngine) -> None:
    nowhere = open_engine("postgresql://nobody@127.0.0.1:9/nothing")
    book = SpendBook(nowhere)
    book.add("a", 0, 5)

    assert not await book.flush()
    with pytest.raises(DatabaseUnavailable):
        await book.read(ALL)
    book.add("a", 0, 1)
    book._engine, book._insert = engine, SpendBook(engine)._insert

    assert await book.flush()
    assert (await SpendBook(engine).read(ALL))["a"] == {0: 6}
    await nowhere.dispose()


async def test_what_a_last_flush_could_not_write_is_told(caplog: pytest.LogCaptureFixture) -> None:
    nowhere = open_engine("postgresql://nobody@127.0.0.1:9/nothing")
    book = SpendBook(nowhere)
    await book.start()
    book.add("a", 0, 5)

    await book.drain(1)

    assert "{('a', 0): 5}" in caplog.text
    await nowhere.dispose()
