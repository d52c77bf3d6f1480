"""Every version of the policies that admins pushed: rows are added, never changed. Does not look inside a policy."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, func, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.acts import POLICY, Change, acting
from gateway.ledger.faults import asking
from gateway.ledger.tables import policy_version


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One pushed version; `sha256` is that of `body` (hex), `created_at` Unix seconds."""

    id: int
    name: str
    body: str
    sha256: str
    author: str
    note: str
    created_at: float


class PolicyVersions:
    """The pushed versions; every method raises `DatabaseUnavailable` (an `OSError`) without a working database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._seen: tuple[Any, ...] | None = None
        self._latest: dict[str, VersionRow] = {}

    async def push(self, name: str, body: str, author: str, note: str, *, actor: str | None = None) -> VersionRow:
        """Add a version, which is then the latest of its name; a rollback is a push of the older body.

        `actor` is who stands in the audit log, the author unless given.
        """
        sha256 = hashlib.sha256(body.encode()).hexdigest()
        values = {"name": name, "body": body, "sha256": sha256, "author": author, "note": note}
        statement = insert(policy_version).values(**values, created_at=time.time()).returning(policy_version)
        async with acting(self._engine, actor or author) as act:
            row = _version((await act.connection.execute(statement)).one())
            await act.done("policy.push", name, {"version": row.id, "sha256": sha256}, Change(POLICY, name))
        return row

    async def latest(self) -> dict[str, VersionRow]:
        """The latest version of each name; cheap to ask again and again, since bodies are read only after a push."""
        # Both figures: on PostgreSQL a row may become visible after one with a higher id.
        mark = select(func.max(policy_version.c.id), func.count())
        newest = select(func.max(policy_version.c.id)).group_by(policy_version.c.name)
        statement = select(policy_version).where(policy_version.c.id.in_(newest))
        with asking():
            async with self._engine.connect() as connection:
                seen = tuple((await connection.execute(mark)).one())
                if seen != self._seen:
                    rows = (await connection.execute(statement)).all()
                    self._latest = {row.name: _version(row) for row in rows}
                    self._seen = seen
        return dict(self._latest)

    async def history(self, name: str) -> list[VersionRow]:
        """Every version of a name, newest first."""
        statement = select(policy_version).where(policy_version.c.name == name).order_by(policy_version.c.id.desc())
        with asking():
            async with self._engine.connect() as connection:
                return _versions((await connection.execute(statement)).all())


def _versions(rows: Sequence[Row[Any]]) -> list[VersionRow]:
    return [_version(row) for row in rows]


def _version(row: Row[Any]) -> VersionRow:
    return VersionRow(**row._mapping)
