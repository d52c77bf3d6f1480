"""Questions to the request log, for commands and admin pages; answers are ready for JSON. Reads only.

Every function raises `DatabaseUnavailable` when the database does not answer.
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from sqlalchemy import Column, ColumnElement, Integer, RowMapping, case, func, select
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from gateway.ledger.faults import asking
from gateway.ledger.tables import request_child, request_log

Grouping = Literal["model", "day", "key"]
DAY_S: Final = 86_400
_HEAVY: Final = frozenset({"embedding", "prompt", "answer"})


@dataclass(frozen=True, slots=True)
class Total:
    """Sums over one group of requests: `group` is a model, a UTC day (YYYY-MM-DD), a key id, or None where unknown."""

    group: str | None
    requests: int
    errors: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_nanousd: int
    cache_hits: int = 0
    saved_nanousd: int = 0


async def recent(engine: AsyncEngine, limit: int) -> list[dict[str, Any]]:
    """The newest requests first, without prompt, answer and embedding."""
    light = [column for column in request_log.columns if column.name not in _HEAVY]
    statement = select(*light).order_by(request_log.c.at.desc(), request_log.c.id).limit(limit)
    with asking():
        async with engine.connect() as connection:
            return [_ready(row) for row in (await connection.execute(statement)).mappings()]


async def by_id(engine: AsyncEngine, request_id: str) -> dict[str, Any] | None:
    """One request with everything that is known (its embedding as base64 of float16 values), its calls among it where
    a strategy made several."""
    statement = select(request_log).where(request_log.c.id == request_id)
    parts = select(request_child).where(request_child.c.parent_id == request_id).order_by(request_child.c.seq)
    with asking():
        async with engine.connect() as connection:
            row = (await connection.execute(statement)).mappings().one_or_none()
            children = (await connection.execute(parts)).mappings().all()
    return None if row is None else _ready(row) | {"children": [dict(child) for child in children]}


async def totals(engine: AsyncEngine, by: Grouping, days: float) -> list[Total]:
    """Sums over the last `days` times 24 hours, dearest group first (days: latest first)."""
    group = _GROUPS[by]
    statement = (
        select(group.label("group"), *_SUMS).where(request_log.c.at >= time.time() - days * DAY_S).group_by(group)
    )
    with asking():
        async with engine.connect() as connection:
            rows = (await connection.execute(statement)).all()
    found = [Total(_group_name(by, row[0]), *(int(value or 0) for value in row[1:])) for row in rows]
    if by == "day":
        return sorted(found, key=lambda total: total.group or "", reverse=True)
    return sorted(found, key=lambda total: (-total.cost_nanousd, -total.requests, total.group or ""))


class _DayNumber(GenericFunction[int]):
    """Whole days since 1970: casts round on PostgreSQL and cut on SQLite, so each gets its own words."""

    name = "day_number"
    type = Integer()
    inherit_cache = True


@compiles(_DayNumber, "sqlite")
def _sqlite_day(element: _DayNumber, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} / {DAY_S} AS INTEGER)"


@compiles(_DayNumber, "postgresql")
def _postgresql_day(element: _DayNumber, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST(floor({compiler.process(element.clauses, **options)} / {DAY_S}) AS INTEGER)"


def _sum(column: Column[Any]) -> ColumnElement[Any]:
    return func.sum(column).label(column.name)


_GROUPS: Final[dict[Grouping, ColumnElement[Any]]] = {
    "model": request_log.c.model,
    "day": _DayNumber(request_log.c.at),
    "key": request_log.c.key_id,
}
_SUMS: Final = (
    func.count().label("requests"),
    func.sum(case((request_log.c.status >= 400, 1), else_=0)).label("errors"),
    _sum(request_log.c.input_tokens),
    _sum(request_log.c.output_tokens),
    _sum(request_log.c.cached_tokens),
    _sum(request_log.c.cost_nanousd),
    func.sum(case((request_log.c.cache_id.is_not(None), 1), else_=0)).label("cache_hits"),
    _sum(request_log.c.saved_nanousd),
)


def _group_name(by: Grouping, value: Any) -> str | None:
    if by == "day":
        return datetime.fromtimestamp(int(value) * DAY_S, UTC).date().isoformat()
    return None if value is None else str(value)


def _ready(row: RowMapping) -> dict[str, Any]:
    values = dict(row)
    if values.get("embedding") is not None:
        values["embedding"] = base64.b64encode(values["embedding"]).decode()
    return values
