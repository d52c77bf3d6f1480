"""Who is logged in, in SQL: a random token in the browser's cookie, its hash here. Knows no HTTP.

Every method raises `DatabaseUnavailable` where the database does not answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.acts import acting
from gateway.ledger.engine import writing
from gateway.ledger.faults import asking
from gateway.ledger.lifecycle_tables import console_session
from gateway.ledger.tables import api_key

TIMEOUT_S: Final = 2.0
IDLE_S: Final = 3600.0
LONGEST_S: Final = 12 * 3600.0
# A session's row is written at most this often for being used.
SEEN_EVERY_S: Final = 60.0


class Role(StrEnum):
    """What somebody may do; each may also do what those before may."""

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"

    def may(self, needed: Role) -> bool:
        """Whether this role is enough."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Session:
    """`subject` is who acts, for the audit log; `csrf` must come with whatever changes anything."""

    sha256: str
    subject: str
    role: Role
    key_id: str | None
    csrf: str
    created_at: float
    seen_at: float

    def is_meant(self, token: str) -> bool:
        """Whether a form's token is this session's."""
        return hmac.compare_digest(self.csrf.encode(), token.encode(errors="replace"))


class SessionStore:
    """Sessions end an hour after their last use, twelve after the login, with their key, or by logging out."""

    def __init__(self, engine: AsyncEngine, now: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._now = now

    async def begin(self, subject: str, role: Role, key_id: str | None) -> tuple[Session, str]:
        """A new session with the token that opens it, which is kept nowhere."""
        token, now = secrets.token_urlsafe(32), self._now()
        made = Session(_hash(token), subject, role, key_id, secrets.token_urlsafe(32), now, now)
        values = {name: getattr(made, name) for name in Session.__slots__}
        over = or_(console_session.c.seen_at < now - IDLE_S, console_session.c.created_at < now - LONGEST_S)
        async with acting(self._engine, subject) as act:
            await act.connection.execute(delete(console_session).where(over))
            await act.connection.execute(insert(console_session).values(values | {"role": str(role)}))
            await act.done("console.login", subject, {"role": str(role)})
        return made, token

    async def find(self, token: str) -> Session | None:
        """Whose token it is; None where the session is over."""
        now = self._now()
        wanted = (
            select(console_session, api_key.c.revoked_at, api_key.c.expires_at)
            .select_from(console_session.outerjoin(api_key, api_key.c.id == console_session.c.key_id))
            .where(
                console_session.c.sha256 == _hash(token),
                console_session.c.seen_at >= now - IDLE_S,
                console_session.c.created_at >= now - LONGEST_S,
            )
        )
        with asking():
            async with asyncio.timeout(TIMEOUT_S), self._engine.connect() as connection:
                row = (await connection.execute(wanted)).one_or_none()
        if row is None or row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
            return None
        found = {name: getattr(row, name) for name in Session.__slots__}
        session = Session(**found | {"role": Role(row.role)})
        if now - session.seen_at > SEEN_EVERY_S:
            await self._see(session.sha256, now)
        return session

    async def end(self, session: Session) -> None:
        """Log out."""
        async with acting(self._engine, session.subject) as act:
            await act.connection.execute(delete(console_session).where(console_session.c.sha256 == session.sha256))
            await act.done("console.logout", session.subject, {})

    async def _see(self, sha256: str, now: float) -> None:
        seen = update(console_session).where(console_session.c.sha256 == sha256).values(seen_at=now)
        with asking():
            async with asyncio.timeout(TIMEOUT_S), writing(self._engine).begin() as connection:
                await connection.execute(seen)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
