"""One admin act is one transaction: what it writes, the row that tells running gateways, and its line in the audit log.

Acts queue up for one lock, so that ids of `change` and `audit_log` come in the order in which they become visible: a
reader that has seen one id never misses a lower one.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.ledger import audit
from gateway.ledger.engine import writing
from gateway.ledger.faults import asking
from gateway.ledger.rows import clean
from gateway.ledger.tables import change

KEPT_CHANGES: Final = 1000
ITSELF: Final = "gateway"
_LOCK_KEY: Final = 0x61637473  # "acts"


@dataclass(frozen=True, slots=True)
class Change:
    """Something that running gateways keep in memory is no longer so: `what` is one of the words below."""

    what: str
    subject: str = ""


# Beside these the scopes of `gateway.admission.rules`: whatever bounds that organisation, team, key, model or tag.
SECRET: Final = "secret"  # noqa: S105 - a word, not a secret
POLICY: Final = "policy"
TRIAL: Final = "trial"  # its id
CACHE: Final = "cache"  # cached answers, as JSON which
CACHE_TRUST: Final = "cache_trust"  # which settings of likeness are closed
EVERYTHING: Final = "everything"  # never stored: a reader tells itself so after an outage


@dataclass(frozen=True, slots=True)
class Act:
    """A running act of `actor`: an admin key's id, `cli:<user>`, or `ITSELF`."""

    connection: AsyncConnection
    actor: str

    async def done(self, action: str, subject: str, detail: Mapping[str, object], *changes: Change) -> None:
        """Write the act down, and tell running gateways of its changes."""
        await audit.append(self.connection, self.actor, action, subject, detail)
        for one in changes:
            await self.tell(one)

    async def tell(self, one: Change) -> None:
        """Tell running gateways of a change."""
        values = {"at": time.time(), "what": one.what, "subject": clean(one.subject)}
        told = insert(change).values(**values).returning(change.c.id)
        newest = (await self.connection.execute(told)).scalar_one()
        await self.connection.execute(delete(change).where(change.c.id <= newest - KEPT_CHANGES))


async def tell(engine: AsyncEngine, one: Change) -> None:
    """Tell running gateways of something that is no act of an admin; raises `DatabaseUnavailable`."""
    with asking():
        async with writing(engine).begin() as connection:
            await _queue(connection)
            await Act(connection, ITSELF).tell(one)


async def _queue(connection: AsyncConnection) -> None:
    if connection.dialect.name == "postgresql":  # SQLite's writers queue up at BEGIN
        await connection.execute(select(func.pg_advisory_xact_lock(_LOCK_KEY)))


@asynccontextmanager
async def acting(engine: AsyncEngine, actor: str) -> AsyncIterator[Act]:
    """A transaction for one act, committed at the end of the block; raises `DatabaseUnavailable`."""
    with asking():
        async with writing(engine).begin() as connection:
            await _queue(connection)
            yield Act(connection, actor)
