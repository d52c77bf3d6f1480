"""What was asked and spent, over time and by model: the figures of the console's charts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, cast, get_args

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.faults import asking
from gateway.ledger.tables import request_log

Period = Literal["1h", "24h", "7d", "30d"]
# Steps, and seconds of each.
PERIODS: Final[Mapping[Period, tuple[int, int]]] = {
    "1h": (12, 300),
    "24h": (24, 3600),
    "7d": (168, 3600),
    "30d": (30, 86_400),
}
MOST_ROWS: Final = 50_000


@dataclass(frozen=True, slots=True)
class Point:
    """Sums of a stretch of time; times in ms, None where nothing was timed. `asked`: the cache was looked into."""

    requests: int = 0
    errors: int = 0
    asked: int = 0
    hits: int = 0
    cost_nanousd: int = 0
    saved_nanousd: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None

    @property
    def hit_share(self) -> float | None:
        """Of the requests for which the cache was looked into."""
        return self.hits / self.asked if self.asked else None

    @property
    def error_share(self) -> float | None:
        """Of all requests."""
        return self.errors / self.requests if self.requests else None


@dataclass(frozen=True, slots=True)
class Course:
    """`points` has one entry for each step of `step_s` from `start` (Unix seconds) on, `total` is that of all."""

    start: int
    step_s: int
    points: Sequence[Point]
    total: Point


@dataclass(frozen=True, slots=True)
class Share:
    """Sums of one model; None: requests that met none."""

    name: str | None
    sums: Point


class Usage(Protocol):
    """What pages ask. Every method raises `DatabaseUnavailable`."""

    async def course(self, period: Period) -> Course:
        """How it went, step by step, until now."""

    async def by_model(self, period: Period) -> Sequence[Share]:
        """Of each model, dearest first."""


def period_of(text: str | None) -> Period:
    """A period by its name; a day for anything else."""
    return cast(Period, text) if text in get_args(Period) else "24h"


class LedgerUsage:
    """From the newest rows of the request log."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def course(self, period: Period) -> Course:
        """See `Usage`."""
        steps, step_s = PERIODS[period]
        start = int(time.time() // step_s - steps + 1) * step_s
        rows = await self._rows(start)
        parts: list[list[Any]] = [[] for _ in range(steps)]
        for row in rows:
            parts[min(int((row.at - start) // step_s), steps - 1)].append(row)
        return Course(start, step_s, [_point(part) for part in parts], _point(rows))

    async def by_model(self, period: Period) -> Sequence[Share]:
        """See `Usage`."""
        steps, step_s = PERIODS[period]
        parts: dict[str | None, list[Any]] = {}
        for row in await self._rows(int(time.time() // step_s - steps + 1) * step_s):
            parts.setdefault(row.model, []).append(row)
        found = [Share(name, _point(part)) for name, part in parts.items()]
        return sorted(found, key=lambda one: (-one.sums.cost_nanousd, -one.sums.requests, one.name or ""))

    async def _rows(self, start: int) -> Sequence[Any]:
        log = request_log.c
        columns = (
            *(log.at, log.model, log.status, log.cache_status, log.cache_id),
            *(log.cost_nanousd, log.saved_nanousd, log.total_ms),
        )
        wanted = select(*columns).where(log.at >= start).order_by(log.at.desc()).limit(MOST_ROWS)
        with asking():
            async with self._engine.connect() as connection:
                return (await connection.execute(wanted)).all()


def _point(rows: Sequence[Any]) -> Point:
    times = sorted(row.total_ms for row in rows if row.total_ms is not None and row.status < 400)
    return Point(
        requests=len(rows),
        errors=sum(row.status >= 400 for row in rows),
        asked=sum(row.cache_status != "off" for row in rows),
        hits=sum(row.cache_id is not None for row in rows),
        cost_nanousd=sum(row.cost_nanousd or 0 for row in rows),
        saved_nanousd=sum(row.saved_nanousd or 0 for row in rows),
        p50_ms=_quantile(times, 0.5),
        p95_ms=_quantile(times, 0.95),
    )


def _quantile(times: Sequence[float], share: float) -> float | None:
    return times[min(int(share * len(times)), len(times) - 1)] if times else None
