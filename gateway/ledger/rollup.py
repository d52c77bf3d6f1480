"""Makes the usage tables anew from the log, or compares the two: for rows logged before there were such tables, or by
processes of an older release. Blocking functions over a connection, one UTC day at a time; the caller commits.

Days of which the log has no rows keep their sums.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Table, delete, func, insert, select, text

from gateway.ledger.tables import request_log, usage_caller, usage_category, usage_model
from gateway.ledger.usage_cells import READ, Cell, UsageTally
from gateway.ledger.usage_tables import DAY_S, FINE_S, HOUR_S

TABLES: Final = (usage_model, usage_category, usage_caller)
KEPT_FINE_S: Final = 2 * DAY_S
_PAGE_ROWS: Final = 2_000
_INSERT_ROWS: Final = 500


@dataclass(frozen=True, slots=True)
class Difference:
    """Cells of a day that are not what the log says: in the table only, in the log only, or with other sums."""

    day: int
    table: str
    cells: int

    @property
    def date(self) -> str:
        """As YYYY-MM-DD."""
        return datetime.fromtimestamp(self.day, UTC).date().isoformat()


def days_logged(connection: Connection) -> range:
    """The UTC days, by their first second, from the log's first row to its last."""
    first, last = connection.execute(select(func.min(request_log.c.at), func.max(request_log.c.at))).one()
    return range(0) if first is None else range(int(first) // DAY_S * DAY_S, int(last) + 1, DAY_S)


def rebuild_day(connection: Connection, day: int, now: float | None = None) -> int:
    """Put the sums of the log in place of a day's cells; how many requests that were (0: nothing was changed).

    Writers wait meanwhile, and add what they have logged afterwards.
    """
    _lock(connection)
    tally, requests = _tally(connection, day)
    if not requests:
        return 0
    kept = (time.time() if now is None else now) - KEPT_FINE_S
    for table, cells in tally.cells():
        c = table.c
        connection.execute(delete(table).where(c.span_s < DAY_S, c.start >= day, c.start < day + DAY_S))
        connection.execute(delete(table).where(c.span_s == DAY_S, c.start == day))
        _insert(connection, table, [cell for cell in cells if cell[0] > FINE_S or cell[1] >= kept])
    return requests


def differences(connection: Connection, day: int) -> list[Difference]:
    """What the hours and the day itself have wrong; exact only within one snapshot of the database."""
    tally, requests = _tally(connection, day)
    if not requests:
        return []
    found = []
    for table, cells in tally.cells():
        c = table.c
        held = select(table).where(c.span_s >= HOUR_S, c.start >= day, c.start < day + DAY_S)
        there = {tuple(row) for row in connection.execute(held)}
        logged = {cell for cell in cells if cell[0] >= HOUR_S}
        keys = len(table.primary_key.columns)
        wrong = {cell[:keys] for cell in there ^ logged}
        if wrong:
            found.append(Difference(day, table.name, len(wrong)))
    return found


def forget_fine(connection: Connection, now: float) -> int:
    """Remove cells of five minutes that are older than two days: hours tell the same. How many that were."""
    old = int(now - KEPT_FINE_S)
    return sum(
        connection.execute(delete(table).where(table.c.span_s == FINE_S, table.c.start < old)).rowcount
        for table in TABLES
    )


def missing(connection: Connection, day: int) -> int:
    """How many more requests of a day the log has than the sums, at one moment; quick, since it counts only."""
    logged = select(func.count()).where(request_log.c.at >= day, request_log.c.at < day + DAY_S).scalar_subquery()
    c = usage_model.c
    summed = select(func.coalesce(func.sum(c.requests), 0)).where(c.span_s == DAY_S, c.start == day).scalar_subquery()
    return int(connection.scalar(select(logged - summed)) or 0)


def _tally(connection: Connection, day: int) -> tuple[UsageTally, int]:
    at = request_log.c.at
    wanted = select(*(request_log.c[name] for name in READ)).where(at >= day, at < day + DAY_S)
    tally, requests = UsageTally(), 0
    for page in _pages(connection, wanted):
        tally.count(page)
        requests += len(page)
    return tally, requests


def _pages(connection: Connection, wanted: Any) -> Iterator[list[Any]]:
    result = connection.execute(wanted, execution_options={"yield_per": _PAGE_ROWS})
    for page in result.partitions():
        yield list(page)


def _lock(connection: Connection) -> None:
    """So that nobody adds to cells that are made anew; in SQLite whoever writes has the lock."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE usage_model, usage_category, usage_caller IN SHARE ROW EXCLUSIVE MODE"))


def _insert(connection: Connection, table: Table, cells: list[Cell]) -> None:
    names = [column.name for column in table.columns]
    for start in range(0, len(cells), _INSERT_ROWS):
        rows = [dict(zip(names, cell, strict=True)) for cell in cells[start : start + _INSERT_ROWS]]
        connection.execute(insert(table), rows)
