"""What callers thought of an answer, in SQL: one row for each request and source, whose last word counts.

Every call is bounded in time and raises `DatabaseUnavailable` where the database does not answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import time
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.ledger.engine import writing
from gateway.ledger.faults import asking
from gateway.ledger.rows import clean
from gateway.ledger.tables import api_key, feedback, request_log

TIMEOUT_S: Final = 2.0
# Of one request: enough for users, tests and judges, too few to fill a table by naming ever new ones.
MOST_SOURCES: Final = 8


@dataclass(frozen=True, slots=True)
class Feedback:
    """`score` is 0..1; `key_id` is who said it."""

    request_id: str
    source: str
    score: float
    key_id: str
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose request it was: the first key of the line of the key that asked, and its team."""

    root_key_id: str | None
    team_id: str | None
    policy: str | None


class FeedbackStore:
    """Takes feedback however late; knows requests by what the ledger holds."""

    def __init__(self, engine: AsyncEngine, *, timeout_s: float = TIMEOUT_S, now: Callable[[], float] = time) -> None:
        self._engine = engine
        self._timeout_s = timeout_s
        self._now = now

    async def asked(self, request_id: str) -> Asked | None:
        """Whose request it was; None where the ledger has none of this id (yet)."""
        log = request_log.c
        wanted = (
            select(func.coalesce(api_key.c.root_id, log.key_id), log.team_id, log.policy)
            .select_from(request_log.outerjoin(api_key, api_key.c.id == log.key_id))
            .where(log.id == clean(request_id))
        )
        with asking():
            async with asyncio.timeout(self._timeout_s), self._engine.connect() as connection:
                row = (await connection.execute(wanted)).one_or_none()
        return None if row is None else Asked(*row)

    async def put(self, given: Feedback) -> float | None:
        """Keep it in place of what this source said of the request before; gives the time it was kept at (Unix
        seconds), None where it was not, since `MOST_SOURCES` others had their say."""
        at = self._now()
        request_id, source = clean(given.request_id), clean(given.source)
        values = {
            "request_id": request_id,
            "source": source,
            "at": at,
            "score": given.score,
            "key_id": given.key_id,
            "comment": None if given.comment is None else clean(given.comment),
        }
        insert = sqlite.insert if self._engine.dialect.name == "sqlite" else postgresql.insert
        newer = {name: values[name] for name in ("at", "score", "key_id", "comment")}
        said = insert(feedback).values(**values)
        with asking():
            async with asyncio.timeout(self._timeout_s), writing(self._engine).begin() as connection:
                if await _others(connection, request_id, source) >= MOST_SOURCES:
                    return None
                await connection.execute(
                    said.on_conflict_do_update(index_elements=["request_id", "source"], set_=newer)
                )
        return at


async def _others(connection: AsyncConnection, request_id: str, source: str) -> int:
    """How many other sources have judged the request; whoever judges it at the same time waits."""
    await connection.execute(select(request_log.c.id).where(request_log.c.id == request_id).with_for_update())
    judged = (feedback.c.request_id == request_id) & (feedback.c.source != source)
    return int(await connection.scalar(select(func.count()).select_from(feedback).where(judged)) or 0)
