"""Inserts rows whose key is not there yet, and tells which those were: what is counted must be counted once.

Both ways are exact under concurrency. PostgreSQL tells itself what it took; SQLite's writers have the database's lock.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, Protocol

from sqlalchemy import JSON, Table, Text, bindparam, cast, column, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.ledger.rows import Row

_KNOWN_SQL: Final = "SELECT id FROM request_log WHERE id IN (SELECT value FROM json_each(?))"


class NewRows(Protocol):
    """Of `request_log`; statements are executed as drivers take them, which spares work on 54 values a row."""

    async def insert(self, connection: AsyncConnection, rows: Sequence[Row]) -> list[Row]:
        """Within a transaction that took the lock of `engine.writing`; the rows that were not there."""


def new_rows(engine: AsyncEngine, table: Table) -> NewRows:
    """What suits the engine's database; the table's first column is its key."""
    return _SqliteRows(table) if engine.dialect.name == "sqlite" else _PostgresRows(engine, table)


class _SqliteRows:
    def __init__(self, table: Table) -> None:
        self._sql = str(sqlite.insert(table).on_conflict_do_nothing().compile(dialect=sqlite.dialect()))

    async def insert(self, connection: AsyncConnection, rows: Sequence[Row]) -> list[Row]:
        ids = json.dumps([row[0] for row in rows])
        known = set((await connection.exec_driver_sql(_KNOWN_SQL, (ids,))).scalars())
        fresh = _first_of_each([row for row in rows if row[0] not in known])
        if fresh:
            await connection.exec_driver_sql(self._sql, fresh)
        return fresh


class _PostgresRows:
    def __init__(self, engine: AsyncEngine, table: Table) -> None:
        self._sql = _unnesting(engine, table)

    async def insert(self, connection: AsyncConnection, rows: Sequence[Row]) -> list[Row]:
        columns = tuple(list(values) for values in zip(*rows, strict=True))
        taken = set((await connection.exec_driver_sql(self._sql, columns)).scalars())
        return _first_of_each([row for row in rows if row[0] in taken])


def _first_of_each(rows: list[Row]) -> list[Row]:
    """A key that comes twice is stored as it came first."""
    by_key = {row[0]: row for row in reversed(rows)}
    return rows if len(by_key) == len(rows) else list(reversed(by_key.values()))


def _unnesting(engine: AsyncEngine, table: Table) -> str:
    """One array a column in, the keys that were new out."""
    types = [Text() if isinstance(one.type, JSON) else one.type for one in table.columns]
    names = [one.name for one in table.columns]
    arrays = [bindparam(name, type_=postgresql.ARRAY(kind)) for name, kind in zip(names, types, strict=True)]
    given = func.unnest(*arrays).table_valued(*(column(name) for name in names), name="given").render_derived()
    values = [cast(given.c[one.name], one.type) if isinstance(one.type, JSON) else given.c[one.name] for one in table.c]
    statement = postgresql.insert(table).from_select(names, select(*values), include_defaults=False)
    return str(statement.on_conflict_do_nothing().returning(table.columns[0]).compile(dialect=engine.dialect))
