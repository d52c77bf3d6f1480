"""Finds requests in the log, newest first, a page at a time, in bounded time whatever is asked.

The filter that the fewest requests pass (by a bounded look into its index) leads; the others are applied to what it
finds, within `Bounds`. Where that is not enough to fill a page, the page says how far back it looked
and goes on from there: so no combination of filters makes a question long, and no answer looks whole that is not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Row, Select, Subquery, and_, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.ledger.looking import looking
from gateway.ledger.search_filters import Condition, Filters, conditions
from gateway.ledger.tables import request_log

COUNTED: Final = 10_000
FIRST_LOOK: Final = 4  # times as many as are wanted
FIRST_COUNT: Final = 2_000
FIRST_PROBE: Final = 1_000
GROWTH: Final = 2
MOST_LOOK: Final = 2_000  # rows that lie on disk can take 0.1 ms each, whatever those before took
MOST_ROWS: Final = 1_000
SHOWN: Final = (
    *("id", "at", "route", "key_id", "team_id", "organisation_id", "end_user", "tags", "policy", "category"),
    *("model_requested", "model", "endpoint", "provider", "strategy", "stream", "status", "error_code"),
    *("finish_reason", "cache_status", "input_tokens", "output_tokens", "cost_nanousd", "saved_nanousd"),
    *("first_byte_ms", "total_ms"),
)
WHOLE: Final = tuple(one.name for one in request_log.columns if one.name not in ("embedding", "prompt", "answer"))


class CursorError(ValueError):
    """A cursor that is none of ours."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Behind which request a page begins."""

    at: float
    id: str

    def text(self) -> str:
        """As clients get it, to be given back as it is."""
        return f"{self.at.hex()}~{self.id}"

    @classmethod
    def of(cls, text: str) -> Cursor:
        """Read back; raises `CursorError`."""
        moment, found, request_id = text.partition("~")
        try:
            at = float.fromhex(moment)
        except (ValueError, OverflowError):
            at = math.nan
        if not found or not math.isfinite(at) or "\0" in request_id:
            raise CursorError("next: expected what an earlier page gave as `next`, unchanged")
        return cls(at, request_id)


@dataclass(frozen=True, slots=True)
class Page:
    """`next` leads on where there may be more. `looked_back_to`: not all requests before this moment (Unix seconds)
    were looked at yet, since too many had to be; None where the page is full or everything was looked at."""

    rows: list[dict[str, Any]]
    next: Cursor | None
    looked_back_to: float | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is looked at: candidates at most, and no more once looking on would take longer than `patience_s`."""

    candidates: int = 20_000
    patience_s: float = 0.1
    clock: Callable[[], float] = time.monotonic

    def looks(self, first: int) -> Iterator[int]:
        """How many candidates to look at next, and then next, each time more as long as patience lasts."""
        began = before = self.clock()
        size, left = first, self.candidates
        while left > 0:
            size = min(size, left)
            yield size
            now = self.clock()
            if now - began + GROWTH * (now - before) > self.patience_s:
                return
            before, left, size = now, left - size, max(size, min(GROWTH * size, MOST_LOOK))


BOUNDS: Final = Bounds()


@dataclass(frozen=True, slots=True)
class Count:
    """How many requests there are; `exact` or at least so many, as "10,000+"."""

    requests: int
    exact: bool


@dataclass(frozen=True, slots=True)
class _Plan:
    """What passes the leading filter, newest first, and what it must pass beside it."""

    leading: Condition | None
    rest: tuple[Condition, ...]
    filters: Filters
    after: Cursor | None

    @property
    def ordered(self) -> bool:
        """Whether what leads is found in the order of time; if not, it is rare."""
        return self.leading is None or self.leading.ordered

    def passing(self, candidates: int, limit: int) -> Select[Any]:
        """The first `limit` requests among the first candidates."""
        inner = self._candidates(candidates, *(column for one in self.rest for column in one.columns))
        tests = [one.on(inner.c) for one in self.rest]
        return select(inner.c.id, inner.c.at).where(*tests).order_by(inner.c.at.desc(), inner.c.id).limit(limit)

    def last(self, candidates: int) -> Select[Any]:
        """The last of so many candidates; no row where there are fewer."""
        inner = self._candidates(candidates).c
        ordered = select(inner.id, inner.at).order_by(inner.at.desc(), inner.id)
        return ordered.offset(candidates - 1).limit(1)

    def led(self, *columns: ColumnElement[Any]) -> Select[Any]:
        """Of all that passes the leading filter, in no order."""
        leads = [] if self.leading is None else [self.leading.leads]
        within = (*_time_range(self.filters), *_behind(self.after))
        return select(*columns).where(*within, *leads).select_from(request_log)

    def _candidates(self, most: int, *columns: Column[Any]) -> Subquery:
        log = request_log.c
        needed = {one.name: one for one in (log.id, log.at, *columns)}
        # Read in the order of time, all the log would have to be looked through for what is rare.
        newest = log.at.desc() if self.ordered else (log.at + 0.0).desc()
        return self.led(*needed.values()).order_by(newest, log.id).limit(most).subquery("candidate")


async def search(
    engine: AsyncEngine,
    filters: Filters,
    *,
    limit: int = 50,
    after: Cursor | None = None,
    columns: Sequence[str] = SHOWN,
    bounds: Bounds = BOUNDS,
) -> Page:
    """A page of requests, those with the columns that are named. Raises `DatabaseUnavailable`."""
    limit = min(limit, MOST_ROWS)
    async with looking(engine) as connection:
        plan = await _plan(connection, filters, after, bounds)
        found, behind = await _found(connection, plan, limit + 1, bounds)
        rows = await _whole(connection, [one.id for one in found[:limit]], columns)
    if len(found) > limit:
        return Page(rows, Cursor(found[limit - 1].at, found[limit - 1].id))
    return Page(rows, behind, behind.at if behind else None)


async def count(engine: AsyncEngine, filters: Filters, *, bounds: Bounds = BOUNDS) -> Count:
    """How many requests pass the filters, as far as a bounded look tells. Raises `DatabaseUnavailable`."""
    async with looking(engine) as connection:
        plan = await _plan(connection, filters, None, bounds)
        if not plan.rest:  # answered by an index alone
            found = await _counted(connection, plan.led(literal(1)).limit(COUNTED + 1))
            return Count(min(found, COUNTED), exact=found <= COUNTED)
        found = 0
        for most in bounds.looks(FIRST_COUNT if plan.ordered else bounds.candidates):
            found += await _counted(connection, plan.passing(most, COUNTED + 1 - found))
            if found > COUNTED:
                return Count(COUNTED, exact=False)
            last = (await connection.execute(plan.last(most))).first()
            if last is None:
                return Count(found, exact=True)
            plan = replace(plan, after=Cursor(last.at, last.id))
        return Count(found, exact=False)


async def _plan(connection: AsyncConnection, filters: Filters, after: Cursor | None, bounds: Bounds) -> _Plan:
    given = conditions(filters, connection.dialect.name)
    within = (*_time_range(filters), *_behind(after))
    leading = await _rarest(connection, [one for one in given if one.indexed], within, bounds)
    rest = tuple(one for one in given if one is not leading or not one.whole)
    return _Plan(leading, rest, filters, after)


async def _rarest(
    connection: AsyncConnection, indexed: Sequence[Condition], within: Sequence[ColumnElement[bool]], bounds: Bounds
) -> Condition | None:
    """The condition that the fewest requests pass; one that too many do leads only if it is in order of time."""
    if len(indexed) == 1 and indexed[0].ordered:
        return indexed[0]
    for most in sorted({min(FIRST_PROBE, bounds.candidates), bounds.candidates}):
        best, fewest = None, most + 1
        for one in indexed:
            passing = await _counted(connection, select(literal(1)).where(one.leads, *within).limit(fewest))
            if passing < fewest:
                best, fewest = one, passing
        if best is not None:
            return best
    return next((one for one in indexed if one.ordered), None)


async def _counted(connection: AsyncConnection, rows: Select[Any]) -> int:
    return int(await connection.scalar(select(func.count()).select_from(rows.subquery())) or 0)


async def _found(
    connection: AsyncConnection, plan: _Plan, wanted: int, bounds: Bounds
) -> tuple[Sequence[Row[Any]], Cursor | None]:
    """So many requests, and where the look ended if there are fewer. Most pages fill up from the newest candidates."""
    found: list[Row[Any]] = []
    for most in bounds.looks(FIRST_LOOK * wanted if plan.ordered else bounds.candidates):
        found += (await connection.execute(plan.passing(most, wanted - len(found)))).all()
        if len(found) == wanted:
            return found, None
        last = (await connection.execute(plan.last(most))).first()
        if last is None:
            return found, None
        plan = replace(plan, after=Cursor(last.at, last.id))
    return found, plan.after


async def _whole(connection: AsyncConnection, ids: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
    """The columns of the requests on the page, in its order: only these rows are read whole."""
    if not ids:
        return []
    log = request_log.c
    wanted = select(*(log[name] for name in dict.fromkeys(("id", *columns)))).where(log.id.in_(ids))
    by_id = {row["id"]: dict(row) for row in (await connection.execute(wanted)).mappings()}
    return [by_id[one] for one in ids if one in by_id]


def _time_range(filters: Filters) -> Iterable[ColumnElement[bool]]:
    at: Column[Any] = request_log.c.at
    if filters.since is not None:
        yield at >= filters.since
    if filters.until is not None:
        yield at < filters.until


def _behind(after: Cursor | None) -> Iterable[ColumnElement[bool]]:
    """Written so that both databases begin at the right place of an index on `at`."""
    if after is None:
        return
    log = request_log.c
    yield log.at <= after.at
    yield or_(log.at < after.at, and_(log.at == after.at, log.id > after.id))
