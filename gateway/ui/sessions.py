"""Who is logged in, in SQL: a random token in the browser's cookie, its hash here. Knows no HTTP.

Every method raises `DatabaseUnavailable` where the database does not answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Row, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.acts import acting
from gateway.ledger.engine import writing
from gateway.ledger.faults import asking
from gateway.ledger.lifecycle_tables import console_session
from gateway.ledger.tables import api_key
from gateway.ui.roles import Role, key_role, lower

TIMEOUT_S: Final = 5.0
# A session's row is written at most this often for being used.
SEEN_EVERY_S: Final = 60.0
_COLUMNS: Final = tuple(console_session.c.keys())
_KEY_COLUMNS: Final = tuple(api_key.c[name] for name in ("id", "name", "revoked_at", "expires_at", "metadata"))
KeyRoles = Callable[[Mapping[str, Any]], Role | None]


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Sessions end so long after their last use, and so long after their login."""

    idle_s: float = 3600.0
    longest_s: float = 12 * 3600.0


@dataclass(frozen=True, slots=True)
class Session:
    """`subject` is who acts, for the audit log; `csrf` must come with what changes anything; `name` is the key's."""

    sha256: str
    subject: str
    role: Role
    key_id: str | None
    csrf: str
    created_at: float
    seen_at: float
    name: str = ""

    @property
    def shown(self) -> str:
        """Who it is, for people: the key's name, or that of single sign-on."""
        return self.name or self.subject.removeprefix("oidc:").rpartition("/")[0] or self.subject

    def is_meant(self, token: str) -> bool:
        """Whether a form's token is this session's."""
        return hmac.compare_digest(self.csrf.encode(), token.encode(errors="replace"))


def key_roles(most: str) -> KeyRoles:
    """From an admin key's metadata to its role; `most` is a role, or 'none'."""
    bound = None if most == "none" else Role(most)
    return lambda metadata: key_role(bound, metadata)


class SessionStore:
    """Sessions end with their lifetime, with the key that opened them, or by logging out."""

    def __init__(
        self,
        engine: AsyncEngine,
        lifetime: Lifetime,
        role_of_key: KeyRoles,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._lifetime = lifetime
        self._now = now
        self.role_of_key = role_of_key

    async def begin(self, subject: str, role: Role, key_id: str | None = None) -> tuple[Session, str]:
        """A new session with the token that opens it, which is kept nowhere."""
        token, now = secrets.token_urlsafe(32), self._now()
        made = Session(_hash(token), subject, role, key_id, secrets.token_urlsafe(32), now, now)
        values = {name: getattr(made, name) for name in _COLUMNS}
        idle, longest = now - self._lifetime.idle_s, now - self._lifetime.longest_s
        over = or_(console_session.c.seen_at < idle, console_session.c.created_at < longest)
        async with acting(self._engine, subject) as act:
            await act.connection.execute(delete(console_session).where(over))
            await act.connection.execute(insert(console_session).values(values | {"role": str(role)}))
            await act.done("console.login", subject, {"role": str(role)})
        return made, token

    async def find(self, token: str, *, used: bool = True) -> Session | None:
        """Whose token it is; None where the session is over. What a page asks by itself is no use of it."""
        now = self._now()
        wanted = (
            select(console_session, *_KEY_COLUMNS)
            .select_from(console_session.outerjoin(api_key, api_key.c.id == console_session.c.key_id))
            .where(
                console_session.c.sha256 == _hash(token),
                console_session.c.seen_at >= now - self._lifetime.idle_s,
                console_session.c.created_at >= now - self._lifetime.longest_s,
            )
        )
        with asking():
            async with asyncio.timeout(TIMEOUT_S), self._engine.connect() as connection:
                row = (await connection.execute(wanted)).one_or_none()
        session = self._session(row, now) if row is not None else None
        if session is not None and used and now - session.seen_at > SEEN_EVERY_S:
            await self._see(session.sha256, now)
        return session

    async def end(self, session: Session) -> None:
        """Log out."""
        async with acting(self._engine, session.subject) as act:
            await act.connection.execute(delete(console_session).where(console_session.c.sha256 == session.sha256))
            await act.done("console.logout", session.subject, {})

    def _session(self, row: Row[Any], now: float) -> Session | None:
        found = Session(
            **{name: getattr(row, name) for name in _COLUMNS} | {"role": Role(row.role), "name": row.name or ""}
        )
        if found.key_id is None:
            return found
        if row.id is None or row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
            return None
        allowed = self.role_of_key(row.metadata or {})
        return None if allowed is None else replace(found, role=lower(found.role, allowed))

    async def _see(self, sha256: str, now: float) -> None:
        seen = update(console_session).where(console_session.c.sha256 == sha256).values(seen_at=now)
        with asking():
            async with asyncio.timeout(TIMEOUT_S), writing(self._engine).begin() as connection:
                await connection.execute(seen)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
