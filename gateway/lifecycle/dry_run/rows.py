"""Logged requests as a dry run needs them, newest first, in pages that hold no lock between them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.faults import asking
from gateway.ledger.tables import feedback, request_log

PAGE_ROWS: Final = 2000
MOST_ROWS: Final = 1_000_000
_COLUMNS: Final = (
    *("id", "at", "policy_sha256", "category", "model", "router_kind", "strategy", "propensity", "decision"),
    *("features", "embedding", "embedder", "status", "cache_status", "cost_nanousd", "prompt"),
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The last `last` requests of a policy, of those since `since` (Unix seconds) where that is given."""

    policy: str
    last: int
    since: float | None = None


async def count(engine: AsyncEngine, wanted: Wanted) -> int:
    """How many there are, at most `last`."""
    few = select(request_log.c.id).where(_fitting(wanted)).limit(wanted.last).subquery()
    with asking():
        async with engine.connect() as connection:
            return int(await connection.scalar(select(func.count()).select_from(few)) or 0)


async def pages(engine: AsyncEngine, wanted: Wanted) -> AsyncIterator[Sequence[Any]]:
    """Rows of the columns above and `score`, the mean of what was said of the answer."""
    log = request_log.c
    score = (
        select(func.avg(feedback.c.score))
        .where(feedback.c.request_id == log.id)
        .correlate(request_log)
        .scalar_subquery()
        .label("score")
    )
    page = select(*(log[name] for name in _COLUMNS), score).where(_fitting(wanted))
    page = page.order_by(log.at.desc(), log.id.desc())
    left, begin = wanted.last, None
    while left > 0:
        asked = page.limit(min(PAGE_ROWS, left))
        with asking():
            async with engine.connect() as connection:
                rows = (await connection.execute(asked if begin is None else asked.where(begin))).all()
        if not rows:
            return
        yield rows
        left -= len(rows)
        last = rows[-1]
        begin = or_(log.at < last.at, and_(log.at == last.at, log.id < last.id))


def _fitting(wanted: Wanted) -> ColumnElement[bool]:
    log = request_log.c
    conditions = [log.policy == wanted.policy]
    if wanted.since is not None:
        conditions.append(log.at >= wanted.since)
    return and_(*conditions)
