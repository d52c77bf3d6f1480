"""What was asked and spent, over time and by lines of division, read from the usage tables; never from the log itself.

Every question reads as few cells as cover its stretch of time, whatever the log holds. Functions raise
`DatabaseUnavailable` when the database does not answer, `UsageError` where lines can't be combined.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import zip_longest
from typing import Any, Final, Literal, cast, get_args

from sqlalchemy import ColumnElement, Table, and_, false, func, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.histogram import quantile
from gateway.ledger.looking import looking
from gateway.ledger.rows import clean
from gateway.ledger.tables import usage_caller, usage_category, usage_model
from gateway.ledger.usage_tables import COUNTS, DAY_S, FINE_S, FIRST_BYTE, HOUR_S, LATENCY, SPANS_S

Line = Literal["model", "endpoint", "policy", "category", "key_id", "team_id", "organisation_id"]
Order = Literal["cost_nanousd", "requests", "errors", "saved_nanousd"]
Period = Literal["1h", "24h", "7d", "30d"]
LINES: Final = cast(tuple[Line, ...], get_args(Line))
PERIODS: Final[Mapping[Period, tuple[int, int]]] = {
    "1h": (12, FINE_S),
    "24h": (24, HOUR_S),
    "7d": (168, HOUR_S),
    "30d": (30, DAY_S),
}
MOST_GROUPS: Final = 1_000


class UsageError(ValueError):
    """A question that these sums can't answer; the message says which they can."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """From `start` (Unix seconds, a multiple of `step_s`) to now, in `steps` steps, the last of which is running."""

    start: int
    step_s: int
    steps: int

    @property
    def end(self) -> int:
        """Where the last step ends."""
        return self.start + self.steps * self.step_s

    @property
    def starts(self) -> range:
        """Where each step begins."""
        return range(self.start, self.end, self.step_s)


@dataclass(frozen=True, slots=True)
class Where:
    """What requests must be of; None: of any. '' is what has none, such as requests without a category."""

    model: str | None = None
    endpoint: str | None = None
    policy: str | None = None
    category: str | None = None
    key_id: str | None = None
    team_id: str | None = None
    organisation_id: str | None = None

    def given(self) -> dict[Line, str]:
        """The lines that are narrowed."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {cast(Line, name): value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Times:
    """Of answers, in ms; less than 25 % off (`gateway.ledger.histogram`), None where nothing was timed."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Sums:
    """Over a group of requests. `errors` are those with status 400 and above, `failures` with 500 and above;
    `cache_asked` those for which the cache was looked into. Times are known by model and endpoint only."""

    requests: int = 0
    errors: int = 0
    failures: int = 0
    cache_asked: int = 0
    cache_hits: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_nanousd: int = 0
    saved_nanousd: int = 0
    latency: Times = field(default=Times())
    first_byte: Times = field(default=Times())

    @property
    def error_share(self) -> float | None:
        """Of all requests; None where there were none."""
        return self.errors / self.requests if self.requests else None

    @property
    def hit_share(self) -> float | None:
        """Of the requests for which the cache was looked into; None where there were none."""
        return self.cache_hits / self.cache_asked if self.cache_asked else None


@dataclass(frozen=True, slots=True)
class Overview:
    """`points` has one entry for each step of the stretch, `total` is that of all of them."""

    stretch: Stretch
    total: Sums
    points: tuple[Sums, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """`name` is a model, an endpoint, a policy, a category, or an id; None: requests that have none."""

    name: str | None
    sums: Sums


def stretch_of(period: Period, now: Callable[[], float] = time.time) -> Stretch:
    """The last hour in steps of five minutes, 24 hours or 7 days in hours, 30 days in UTC days."""
    steps, step_s = PERIODS[period]
    return Stretch(int(now() // step_s - steps + 1) * step_s, step_s, steps)


async def overview(engine: AsyncEngine, stretch: Stretch, where: Where = Where()) -> Overview:
    """Sums for each step and in all."""
    table = _table_of(where.given())
    step = (table.c.start - table.c.start % stretch.step_s).label("step")
    statement = select(step, *_summed(table)).where(within(table, stretch), *_narrowed(table, where)).group_by(step)
    by_step = {int(row[0]): row[1:] for row in await _rows(engine, statement)}
    inside = [by_step.get(start) for start in stretch.starts]
    return Overview(stretch, _sums(_added(one for one in inside if one)), tuple(_sums(one) for one in inside))


async def groups(
    engine: AsyncEngine,
    stretch: Stretch,
    by: Line,
    where: Where = Where(),
    *,
    order: Order = "cost_nanousd",
    limit: int = 20,
) -> list[Group]:
    """Sums of each model, key and so on, the greatest first; at most `limit` of them."""
    table = _table_of({**where.given(), by: ""})
    counts = [func.sum(table.c[name]).label(name) for name in COUNTS]
    line = table.c[by]
    statement = (
        select(line, *counts)
        .where(_covering(table, stretch), *_narrowed(table, where))
        .group_by(line)
        .order_by(func.sum(table.c[order]).desc(), func.sum(table.c.requests).desc(), line)
        .limit(min(limit, MOST_GROUPS))
    )
    rows = await _rows(engine, statement)
    times = await _times(engine, table, by, [row[0] for row in rows], stretch, where) if table is usage_model else {}
    return [Group(row[0] or None, _sums((*row[1:], *times.get(row[0], ())))) for row in rows]


async def _times(
    engine: AsyncEngine, table: Table, by: Line, names: Sequence[str], stretch: Stretch, where: Where
) -> dict[str, Sequence[int]]:
    line = table.c[by]
    buckets = [func.sum(table.c[name]) for name in (*LATENCY, *FIRST_BYTE)]
    these = (_covering(table, stretch), line.in_(names), *_narrowed(table, where))
    return {row[0]: row[1:] for row in await _rows(engine, select(line, *buckets).where(*these).group_by(line))}


def _table_of(lines: Iterable[Line]) -> Table:
    """The first table that is cut along all of these lines."""
    wanted = set(lines)
    for table in (usage_model, usage_category, usage_caller):
        if all(line in table.c for line in wanted):
            return table
    sets = "model and endpoint, or policy, category and model, or organisation_id, team_id, key_id and model"
    raise UsageError(f"{', '.join(sorted(wanted))} can't be combined here: give {sets}; the log search takes any")


def _narrowed(table: Table, where: Where) -> Iterator[ColumnElement[bool]]:
    return (table.c[line] == clean(value) for line, value in where.given().items())


def _span_of(step_s: int) -> int:
    return max(span for span in SPANS_S if step_s % span == 0)


def within(table: Table, stretch: Stretch) -> ColumnElement[bool]:
    """The cells of the stretch that are as fine as its steps."""
    return _between(table, _span_of(stretch.step_s), stretch.start, stretch.end)


def _covering(table: Table, stretch: Stretch) -> ColumnElement[bool]:
    """The cells that cover the stretch, each moment once: fine ones until an hour begins, hours until a day does."""
    parts, start = [], stretch.start
    spans = [span for span in SPANS_S if span >= _span_of(stretch.step_s)]
    for span, larger in zip_longest(spans, spans[1:]):
        end = stretch.end if larger is None else min(-(-start // larger) * larger, stretch.end)
        parts.append(_between(table, span, start, end))
        start = end
    return or_(false(), *parts)


def _between(table: Table, span: int, start: int, end: int) -> ColumnElement[bool]:
    return and_(table.c.span_s == span, table.c.start >= start, table.c.start < end)


def _summed(table: Table) -> list[ColumnElement[Any]]:
    names = (*COUNTS, *LATENCY, *FIRST_BYTE) if table is usage_model else COUNTS
    return [func.sum(table.c[name]) for name in names]


def _added(rows: Iterable[Sequence[Any]]) -> list[int]:
    return [int(sum(column)) for column in zip(*rows, strict=True)]


def _sums(row: Sequence[Any] | None) -> Sums:
    """Of counts, and of both histograms where these follow."""
    if not row:
        return Sums()
    values = [int(value) for value in row]
    counts, latency = values[: len(COUNTS)], values[len(COUNTS) : len(COUNTS) + len(LATENCY)]
    first_byte = values[len(COUNTS) + len(LATENCY) :]
    named = dict(zip(COUNTS, counts, strict=True))
    return Sums(**named, latency=_quantiles(latency), first_byte=_quantiles(first_byte))


def _quantiles(buckets: Sequence[int]) -> Times:
    return Times(*(quantile(buckets, share) for share in (0.5, 0.95, 0.99)))


async def _rows(engine: AsyncEngine, statement: Any) -> Sequence[Any]:
    async with looking(engine) as connection:
        return (await connection.execute(statement)).all()
