"""What a log search can ask for, each as a condition on `request_log`, and which of them an index answers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Column, ColumnElement, and_, cast, exists, func, literal_column, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from gateway.ledger.rows import clean
from gateway.ledger.tables import request_log

StatusClass = Literal["ok", "error", "2xx", "4xx", "5xx"]
Columns = ReadOnlyColumnCollection[str, Any]
Make = Callable[[Columns], ColumnElement[bool]]

# Where the tails begin that have an index of their own (`gateway.ledger.search_indexes`). These and other conditions of
# partial indexes stand in statements as they are, since a planner does not see them in parameters.
_DEAR: Final = "10000000"
_SLOW: Final = "10000"
HIT: Final = "hit"
_STATUSES: Final[Mapping[str, tuple[int, int]]] = {
    "ok": (100, 400),
    "error": (400, 1000),
    "2xx": (200, 300),
    "4xx": (400, 500),
    "5xx": (500, 600),
}
_EQUAL: Final = ("key_id", "team_id", "model", "endpoint", "policy", "category", "end_user", "error_code")


@dataclass(frozen=True, slots=True)
class Filters:
    """What requests must be; None: anything. `since` <= at < `until`, Unix seconds. `status` is a class or a number,
    `cache_status` one as logged or "hit" for every kind of hit, `id_prefix` how an id begins."""

    since: float | None = None
    until: float | None = None
    key_id: str | None = None
    team_id: str | None = None
    model: str | None = None
    endpoint: str | None = None
    policy: str | None = None
    category: str | None = None
    status: StatusClass | int | None = None
    error_code: str | None = None
    cache_status: str | None = None
    min_cost_nanousd: int | None = None
    min_total_ms: float | None = None
    id_prefix: str | None = None
    end_user: str | None = None
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """`make` gives it over any selection that has its columns. `indexed`: an index finds what passes, or, where it is
    `coarse`, something of which that is a part; `ordered`: in the order of time."""

    names: tuple[str, ...]
    make: Make
    indexed: bool = False
    ordered: bool = True
    coarse: Make | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing is left to test of what leads."""
        return self.coarse is None

    @property
    def columns(self) -> tuple[Column[Any], ...]:
        """Of the log."""
        return tuple(request_log.c[name] for name in self.names)

    @property
    def leads(self) -> ColumnElement[bool]:
        """Over the log itself, as its index knows it."""
        return (self.coarse or self.make)(request_log.c)

    def on(self, columns: Columns) -> ColumnElement[bool]:
        """Over a selection from it."""
        return self.make(columns)


def conditions(filters: Filters, dialect: str) -> list[Condition]:
    """Those that are given, but for the range of time."""
    found = [_equal(name, clean(value)) for name in _EQUAL if (value := getattr(filters, name)) is not None]
    if filters.status is not None:
        found.append(_status(filters.status))
    if filters.cache_status is not None:
        found.append(_cache_status(filters.cache_status))
    if filters.min_cost_nanousd is not None:
        found.append(_at_least("cost_nanousd", filters.min_cost_nanousd, _DEAR))
    if filters.min_total_ms is not None:
        found.append(_at_least("total_ms", filters.min_total_ms, _SLOW))
    if filters.id_prefix:
        found.append(_prefix(clean(filters.id_prefix)))
    if filters.tag is not None:
        found.append(_tag(clean(filters.tag), dialect))
    return found


def _equal(name: str, value: str) -> Condition:
    return Condition((name,), lambda columns: columns[name] == value, indexed=True)


def _status(wanted: StatusClass | int) -> Condition:
    low, high = (wanted, wanted + 1) if isinstance(wanted, int) else _STATUSES[wanted]
    if low < 400:
        return Condition(("status",), lambda columns: _range(columns["status"], low, high))
    return Condition(
        ("status",),
        lambda columns: and_(columns["status"] >= literal_column("400"), _range(columns["status"], low, high)),
        indexed=True,
    )


def _range(column: ColumnElement[Any], low: int, high: int) -> ColumnElement[bool]:
    return and_(column >= low, column < high)


def _cache_status(wanted: str) -> Condition:
    if wanted == HIT:
        return Condition(("cache_status",), lambda columns: columns["cache_status"].like("hit%"))
    if not wanted.startswith(HIT):
        return Condition(("cache_status",), lambda columns: columns["cache_status"] == clean(wanted))
    return Condition(
        ("cache_status", "cache_id"),
        lambda columns: and_(columns["cache_status"] == clean(wanted), columns["cache_id"].is_not(None)),
        indexed=True,
    )


def _at_least(name: str, value: float, tail: str) -> Condition:
    if value < float(tail):
        return Condition((name,), lambda columns: columns[name] >= value)
    return Condition(
        (name,),
        lambda columns: and_(columns[name] >= value, columns[name] >= literal_column(tail)),
        indexed=True,
        ordered=False,
    )


def _prefix(begin: str) -> Condition:
    """Of our own ids, which are of small letters and digits: whatever order a database puts text in, those that begin
    so lie in this range of its index."""
    return Condition(
        ("id",),
        lambda columns: and_(
            columns["id"] >= begin,
            columns["id"] < begin + "z" * 8,
            func.substr(columns["id"], 1, len(begin)) == begin,
        ),
        indexed=True,
        ordered=False,
    )


def _tag(tag: str, dialect: str) -> Condition:
    def make(columns: Columns) -> ColumnElement[bool]:
        if dialect == "postgresql":
            return cast(columns["tags"], JSONB).contains([tag])
        one = func.json_each(columns["tags"]).table_valued("value")
        return exists(select(one.c.value).where(one.c.value == tag))

    return Condition(("tags",), make, indexed=True, coarse=lambda columns: columns["tags"].is_not(None))
