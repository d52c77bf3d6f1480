"""The audit log of admin acts: rows are only added, and each row's hash covers the row and the hash before it.

Whoever changes, removes or inserts a row makes `verify` fail from there on; a tail cut off is found with a hash that
was noted earlier. Details hold no secrets: that is for those who write them. Knows no act.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.ledger.faults import asking
from gateway.ledger.rows import clean
from gateway.ledger.tables import audit_log

GENESIS: Final = "0" * 64
PAGE_ROWS: Final = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """One act; `at` is Unix seconds, `detail` a JSON object as text, the hashes are hex."""

    id: int
    at: float
    actor: str
    action: str
    subject: str
    detail: str
    previous_sha256: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found: rows that are sound, the last sound hash, and the first broken row with the reason."""

    rows: int
    head_sha256: str
    broken_id: int | None = None
    reason: str = ""

    @property
    def sound(self) -> bool:
        """Whether nothing is broken."""
        return not self.reason


def entry_hash(previous_sha256: str, at: float, actor: str, action: str, subject: str, detail: str) -> str:
    """SHA-256 (hex) of the compact JSON array of these six, in this order, as UTF-8."""
    fields = [previous_sha256, at, actor, action, subject, detail]
    return hashlib.sha256(json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


async def append(
    connection: AsyncConnection, actor: str, action: str, subject: str, detail: Mapping[str, object]
) -> None:
    """Add an act within the caller's transaction, which must hold the writers' lock (`gateway.ledger.acts`).

    Two writers without it can't fork the chain either: the second one's insert fails, `previous_sha256` being unique.
    """
    newest = select(audit_log.c.sha256).order_by(audit_log.c.id.desc()).limit(1)
    previous = (await connection.execute(newest)).scalar() or GENESIS
    text = clean(json.dumps(detail, ensure_ascii=False, sort_keys=True, default=str))
    fields = (time.time(), clean(actor), clean(action), clean(subject), text)
    values = dict(zip(("at", "actor", "action", "subject", "detail"), fields, strict=True))
    hashes = {"previous_sha256": previous, "sha256": entry_hash(previous, *fields)}
    await connection.execute(insert(audit_log).values(**values, **hashes))


class AuditLog:
    """Reads the log; every method raises `DatabaseUnavailable` when the database does not answer."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def list(self, limit: int = 100, before_id: int | None = None) -> Sequence[Entry]:
        """The newest acts first, those before an id where one is given."""
        statement = select(audit_log).order_by(audit_log.c.id.desc()).limit(limit)
        if before_id is not None:
            statement = statement.where(audit_log.c.id < before_id)
        with asking():
            async with self._engine.connect() as connection:
                return [_entry(row) for row in (await connection.execute(statement)).all()]

    async def verify(self, noted_sha256: str | None = None) -> Verdict:
        """Walk the whole chain. `noted_sha256` is a hash seen earlier, which must still be in it."""
        rows, head, noted = 0, GENESIS, noted_sha256 in (None, GENESIS)
        async for entry in self._walk():
            reason = _fault(entry, head)
            if reason:
                return Verdict(rows, head, entry.id, reason)
            rows, head, noted = rows + 1, entry.sha256, noted or entry.sha256 == noted_sha256
        return Verdict(rows, head, None, "" if noted else "the noted hash is not in the log: its end was cut off")

    async def _walk(self) -> AsyncIterator[Entry]:
        last = -1
        while True:
            page = select(audit_log).where(audit_log.c.id > last).order_by(audit_log.c.id).limit(PAGE_ROWS)
            with asking():
                async with self._engine.connect() as connection:
                    rows = (await connection.execute(page)).all()
            for row in rows:
                yield _entry(row)
            if len(rows) < PAGE_ROWS:
                return
            last = rows[-1].id


def _fault(entry: Entry, head: str) -> str:
    if entry.previous_sha256 != head:
        return "it does not follow the row before it: one was removed or put in between"
    expected = entry_hash(head, entry.at, entry.actor, entry.action, entry.subject, entry.detail)
    return "" if expected == entry.sha256 else "it is not what was written: its hash is another"


def _entry(row: Row[Any]) -> Entry:
    return Entry(**row._mapping)
