"""Puts rows into `request_log`, `request_child` and `shadow_decision`, each key once; their sums into the usage tables.

One transaction holds all of a batch, so that the sums are never off by what was logged.
Tells a database that is away from a row that is refused.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.ledger.engine import writing
from gateway.ledger.faults import describe, is_away
from gateway.ledger.new_rows import new_rows
from gateway.ledger.record import Record
from gateway.ledger.rows import ChildRow, Row, ShadowRow, to_row
from gateway.ledger.tables import request_child, request_log, usage_caller, usage_category, usage_model
from gateway.ledger.trial_tables import shadow_decision
from gateway.ledger.usage_cells import UsageTally
from gateway.ledger.usage_tables import COUNTS, FIRST_BYTE, LATENCY

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
        self._requests = new_rows(engine, request_log)
        self._child_sql = _insert_sql(engine, request_child)
        self._shadow_sql = _insert_sql(engine, shadow_decision)
        self._usage_sql = {table.name: _add_sql(engine, table) for table in (usage_model, usage_category, usage_caller)}
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
                await self._requests.insert(connection, [_probe_row()])
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
        """In slices of one transaction, so that encoding many rows does not hold up the event loop; by key, so that
        writers of the same rows wait for each other in no circle."""
        children = [row for row in rows if type(row) is ChildRow]
        shadows = [row for row in rows if type(row) is ShadowRow]
        requests = sorted((row for row in rows if type(row) not in (ChildRow, ShadowRow)), key=itemgetter(0))
        tally = UsageTally()
        for start in range(0, len(requests), SLICE_ROWS):
            tally.add(await self._requests.insert(connection, requests[start : start + SLICE_ROWS]))
        await _in_slices(connection, self._child_sql, children)
        await _in_slices(connection, self._shadow_sql, shadows)
        for table, cells in tally.cells():
            await _in_slices(connection, self._usage_sql[table.name], cells)


async def _in_slices(connection: AsyncConnection, sql: str, rows: Sequence[Row]) -> None:
    for start in range(0, len(rows), SLICE_ROWS):
        await connection.exec_driver_sql(sql, list(rows[start : start + SLICE_ROWS]))


def _insert_sql(engine: AsyncEngine, table: Table) -> str:
    """The statement as the driver takes it: executed raw, it spares SQLAlchemy's work on each value."""
    insert = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert
    return str(insert(table).on_conflict_do_nothing().compile(dialect=engine.dialect))


def _add_sql(engine: AsyncEngine, table: Table) -> str:
    """Likewise; what is there already grows."""
    statement = (sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert)(table)
    sums = {
        name: table.c[name] + statement.excluded[name] for name in (*COUNTS, *LATENCY, *FIRST_BYTE) if name in table.c
    }
    key = list(table.primary_key.columns)
    return str(statement.on_conflict_do_update(index_elements=key, set_=sums).compile(dialect=engine.dialect))


def _probe_row() -> Row:
    return to_row(Record(id=f"probe_{secrets.token_hex(16)}", at=0.0, route="probe"))
