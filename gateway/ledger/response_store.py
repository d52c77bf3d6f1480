"""Responses that a later `previous_response_id` may go on from, in SQL; each is its key's own and expires.

Expired ones are no longer found; `gateway.ledger.privacy` takes them out. Every call is bounded in time: a database
that is away costs an answer two seconds at most, never the answer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from time import time
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.engine import writing
from gateway.ledger.faults import asking
from gateway.ledger.tables import stored_response

KEPT_DAYS: Final = 30.0
TIMEOUT_S: Final = 2.0
_DAY_S: Final = 86_400.0
# What is no id is not worth asking for; PostgreSQL takes no NUL.
_ID: Final = re.compile(r"[!-~]{1,256}")


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """`body` is the response as its client got it, `items` the whole conversation with its output; both JSON."""

    id: str
    key_id: str
    body: str
    items: str
    previous_id: str | None = None
    end_user: str | None = None


class ResponseStore:
    """Every method raises `DatabaseUnavailable` where the database does not answer in time."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        kept_days: float = KEPT_DAYS,
        timeout_s: float = TIMEOUT_S,
        now: Callable[[], float] = time,
    ) -> None:
        self._engine = engine
        self._kept_s = kept_days * _DAY_S
        self._timeout_s = timeout_s
        self._now = now

    async def put(self, response: StoredResponse) -> None:
        """Keep a response; one that is already there under this id stays as it is."""
        if not _ID.fullmatch(response.id):
            return
        at = self._now()
        values = {
            "id": response.id,
            "key_id": response.key_id,
            "end_user": response.end_user and response.end_user.replace("\0", ""),
            "created_at": at,
            "expires_at": at + self._kept_s,
            "previous_id": response.previous_id,
            "body": response.body,
            "items": response.items,
        }
        insert = sqlite.insert if self._engine.dialect.name == "sqlite" else postgresql.insert
        once = insert(stored_response).values(**values).on_conflict_do_nothing(index_elements=["id"])
        with asking():
            async with asyncio.timeout(self._timeout_s), writing(self._engine).begin() as connection:
                await connection.execute(once)

    async def get(self, response_id: str, key_id: str) -> StoredResponse | None:
        """A key's own response; None where there is none, it has expired or belongs to another key."""
        if not _ID.fullmatch(response_id):
            return None
        found: Select[Any] = select(stored_response).where(self._own(response_id, key_id))
        with asking():
            async with asyncio.timeout(self._timeout_s), self._engine.connect() as connection:
                row = (await connection.execute(found)).one_or_none()
        if row is None:
            return None
        return StoredResponse(row.id, row.key_id, row.body, row.items, row.previous_id, row.end_user)

    async def delete(self, response_id: str, key_id: str) -> bool:
        """Forget a key's own response; False where there is none. Those that went on from it keep their copy."""
        if not _ID.fullmatch(response_id):
            return False
        gone = delete(stored_response).where(self._own(response_id, key_id))
        with asking():
            async with asyncio.timeout(self._timeout_s), writing(self._engine).begin() as connection:
                return bool((await connection.execute(gone)).rowcount)

    def _own(self, response_id: str, key_id: str) -> ColumnElement[bool]:
        return and_(
            stored_response.c.id == response_id,
            stored_response.c.key_id == key_id,
            stored_response.c.expires_at > self._now(),
        )
