"""URLs, and what an engine sets up on SQLite."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from gateway.ledger.engine import DatabaseUrlError, hidden, normalise_url, open_engine, writing


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("sqlite:///data/x.sqlite3", "sqlite+aiosqlite:///data/x.sqlite3"),
        ("sqlite+pysqlite:////srv/x", "sqlite+aiosqlite:////srv/x"),
        (" postgres://u:p@h:5433/d ", "postgresql+asyncpg://u:***@h:5433/d"),
        ("postgresql://u:a%40b@h/d?sslmode=require", "postgresql+asyncpg://u:***@h/d?ssl=require"),
        ("postgresql+psycopg://h/d?channel_binding=prefer", "postgresql+asyncpg://h/d"),
    ],
)
def test_every_usual_spelling_gets_its_async_driver(given: str, expected: str) -> None:
    assert hidden(normalise_url(given)) == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "cannot be parsed"),
        ("/var/lib/x", "cannot be parsed"),
        ("postgresql://u:s3cret@h:port/d", "percent-encode"),
        ("mysql://u:s3cret@h/d", "'mysql' are not supported"),
        ("postgresql://u:s3cret@h/d?sslmod=require", "not known: sslmod"),
        ("sqlite://", "in-memory"),
        ("sqlite:///:memory:", "in-memory"),
        ("sqlite:///file:x?mode=memory&uri=true", "in-memory"),
    ],
)
def test_what_cannot_be_used_is_refused_without_showing_the_password(given: str, said: str) -> None:
    with pytest.raises(DatabaseUrlError, match=said) as caught:
        normalise_url(given)

    assert "s3cret" not in str(caught.value) and caught.value.__cause__ is None


def test_a_missing_postgres_driver_is_named_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)

    with pytest.raises(DatabaseUrlError, match=r"pip install 'fingerpost\[postgres\]'"):
        open_engine("postgresql://u:p@h/d")


async def test_an_sqlite_engine_makes_its_folder_and_sets_its_pragmas(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/new/folder/x.sqlite3")

    async with engine.connect() as connection:
        pragmas = ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        values = [(await connection.execute(text(f"PRAGMA {name}"))).scalar() for name in pragmas]

    assert values == ["wal", 1, 5_000, 1]
    await engine.dispose()


async def test_a_transaction_taken_back_takes_back_its_tables_too(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/x.sqlite3")

    async with writing(engine).connect() as connection:
        await connection.execute(text("CREATE TABLE t (a)"))
        await connection.rollback()

    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM sqlite_master"))).scalar() == 0
    await engine.dispose()


async def test_a_reader_is_not_held_up_by_an_open_write(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/x.sqlite3", busy_timeout_s=0)
    async with writing(engine).begin() as connection:
        await connection.execute(text("CREATE TABLE t (a)"))

    async with writing(engine).begin() as writer, engine.connect() as reader:
        await writer.execute(text("INSERT INTO t VALUES (1)"))
        seen = (await reader.execute(text("SELECT count(*) FROM t"))).scalar()

    assert seen == 0
    await engine.dispose()
