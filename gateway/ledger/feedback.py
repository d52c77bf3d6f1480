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
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.engine import writing
from gateway.ledger.faults import asking
from gateway.ledger.rows import clean
from gateway.ledger.tables import api_key, feedback, request_log

TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Feedback:
    """`score` is 0..1; `key_id` is who said it, `at` Unix seconds."""

    request_id: str
    source: str
    score: float
    key_id: str
    comment: str | None = None
    at: float = 0.0


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

    async def put(self, given: Feedback) -> float:
        """Keep it in place of what this source said of the request before; gives the time it was kept at."""
        at = self._now()
        values = {
            "request_id": clean(given.request_id),
            "source": clean(given.source),
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
                await connection.execute(
                    said.on_conflict_do_update(index_elements=["request_id", "source"], set_=newer)
                )
        return at

    async def since(self, at: float, limit: int) -> list[Feedback]:
        """What was said at `at` or later, oldest first: for those who learn from it as it comes."""
        said = feedback.c
        wanted = select(feedback).where(said.at >= at).order_by(said.at, said.request_id, said.source).limit(limit)
        with asking():
            async with asyncio.timeout(self._timeout_s), self._engine.connect() as connection:
                rows = (await connection.execute(wanted)).all()
        return [Feedback(row.request_id, row.source, row.score, row.key_id, row.comment, row.at) for row in rows]
