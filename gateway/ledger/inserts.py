"""Puts rows into `request_log`, `request_child` and `shadow_decision`, each key once.

Tells a database that is away from a row that is refused.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.ledger.engine import writing
from gateway.ledger.faults import describe, is_away
from gateway.ledger.record import Record
from gateway.ledger.rows import ChildRow, Row, ShadowRow, to_row
from gateway.ledger.tables import request_child, request_log
from gateway.ledger.trial_tables import shadow_decision

SLICE_ROWS: Final = 250


class DatabaseAway(Exception):
    """The database cannot take rows now; the message is one line without secrets or row contents."""


@dataclass(slots=True)
class Outcome:
    """What became of a batch: how many rows the database now holds, and the ones it refused, with the reason."""

    kept: int = 0
    refused: list[tuple[Row, str]] = field(default_factory=list)


class Inserter:
    """Writes batches of rows through an engine, within `timeout_s` seconds each."""

    def __init__(self, engine: AsyncEngine, timeout_s: float) -> None:
        self._engine = writing(engine)
        self._sql = _insert_sql(engine, request_log, ["id"])
        self._child_sql = _insert_sql(engine, request_child, ["parent_id", "seq"])
        self._shadow_sql = _insert_sql(engine, shadow_decision, ["request_id", "trial_id"])
        self._timeout_s = timeout_s

    async def insert(self, rows: list[Row]) -> Outcome:
        """Insert rows whose id is not there yet; raises `DatabaseAway` (some rows may then be in already)."""
        outcome = Outcome()
        await self._insert(rows, outcome)
        return outcome

    async def probe(self) -> None:
        """Write a row and take it back; raises `DatabaseAway` if that fails."""
        try:
            async with asyncio.timeout(self._timeout_s), self._engine.connect() as connection:
                await self._execute(connection, [_probe_row()])
                await connection.rollback()
        except Exception as error:
            raise DatabaseAway(describe(error)) from error

    async def _insert(self, rows: list[Row], outcome: Outcome) -> None:
        try:
            async with asyncio.timeout(self._timeout_s), self._engine.begin() as connection:
                await self._execute(connection, rows)
        except Exception as error:
            if is_away(error):
                raise DatabaseAway(describe(error)) from error
            await self._part(rows, error, outcome)
        else:
            outcome.kept += len(rows)

    async def _part(self, rows: list[Row], error: Exception, outcome: Outcome) -> None:
        """Find the rows that are to blame by halving; one that fails while the probe's passes is refused."""
        if len(rows) > 1:
            middle = len(rows) // 2
            await self._insert(rows[:middle], outcome)
            await self._insert(rows[middle:], outcome)
        else:
            await self.probe()
            outcome.refused.append((rows[0], describe(error)))

    async def _execute(self, connection: AsyncConnection, rows: list[Row]) -> None:
        """In slices of one transaction, so that encoding many rows does not hold up the event loop."""
        children = [row for row in rows if type(row) is ChildRow]
        shadows = [row for row in rows if type(row) is ShadowRow]
        requests = [row for row in rows if type(row) not in (ChildRow, ShadowRow)] if children or shadows else rows
        for sql, some in ((self._sql, requests), (self._child_sql, children), (self._shadow_sql, shadows)):
            for start in range(0, len(some), SLICE_ROWS):
                await connection.exec_driver_sql(sql, some[start : start + SLICE_ROWS])


def _insert_sql(engine: AsyncEngine, table: Table, key: list[str]) -> str:
    """The statement as the driver takes it: executed raw, it spares SQLAlchemy's work on 36 values a row."""
    insert = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert
    statement = insert(table).on_conflict_do_nothing(index_elements=key)
    return str(statement.compile(dialect=engine.dialect))


def _probe_row() -> Row:
    return to_row(Record(id=f"probe_{secrets.token_hex(16)}", at=0.0, route="probe"))
