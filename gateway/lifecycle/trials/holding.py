"""What is known of a canary, kept in SQL by whichever process judges it; the others look on.

A process holds a trial for a while and renews that as it goes; when it dies another takes over where it stopped. A late
writer changes nothing: every write names the revision that it has read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import time
from typing import Any, Final

from sqlalchemy import insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.engine import writing
from gateway.ledger.faults import asking
from gateway.ledger.trial_tables import policy_trial_evidence, policy_trial_look

TIMEOUT_S: Final = 5.0
HELD_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Held:
    """A trial that this process may judge: what was known, and the last verdict with its time (0: never)."""

    trial_id: str
    revision: int
    at: float
    evidence: bytes | None
    verdict: dict[str, Any] | None


class EvidenceBook:
    """`holder` names this process. Every method raises `DatabaseUnavailable`."""

    def __init__(self, engine: AsyncEngine, holder: str, now: Callable[[], float] = time) -> None:
        self._engine = engine
        self._holder = holder
        self._now = now
        self._insert = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert

    async def hold(self, trial_id: str) -> Held | None:
        """Hold it, or go on holding it; None where another process does."""
        column, now = policy_trial_evidence.c, self._now()
        mine = (column.holder == self._holder) | (column.held_until < now)
        where = (column.trial_id == trial_id) & mine
        taken = update(policy_trial_evidence).where(where).values(holder=self._holder, held_until=now + HELD_S)
        if not await self._free(trial_id, now):
            return None
        fresh = {"trial_id": trial_id, "holder": self._holder, "held_until": 0.0, "revision": 0, "at": 0.0}
        with asking():
            async with asyncio.timeout(TIMEOUT_S), writing(self._engine).begin() as connection:
                begun = self._insert(policy_trial_evidence).values(fresh).on_conflict_do_nothing()
                await connection.execute(begun)
                row = (await connection.execute(taken.returning(policy_trial_evidence))).one_or_none()
        return None if row is None else Held(trial_id, row.revision, row.at, row.evidence, row.verdict)

    async def save(self, held: Held, evidence: bytes, verdict: dict[str, Any]) -> Held | None:
        """Keep what is known now; None where another process has taken over meanwhile."""
        column, now = policy_trial_evidence.c, self._now()
        mine = (column.holder == self._holder) & (column.revision == held.revision)
        where = (column.trial_id == held.trial_id) & mine
        values = {"evidence": evidence, "verdict": verdict, "at": now, "revision": held.revision + 1}
        kept = update(policy_trial_evidence).where(where).values(**values, held_until=now + HELD_S)
        with asking():
            async with asyncio.timeout(TIMEOUT_S), writing(self._engine).begin() as connection:
                done = (await connection.execute(kept)).rowcount
        return Held(held.trial_id, held.revision + 1, now, evidence, verdict) if done else None

    async def look(self, trial_id: str, figures: dict[str, Any]) -> None:
        """Another point of the plot."""
        values = {"trial_id": trial_id, "at": self._now(), "figures": figures}
        with asking():
            async with asyncio.timeout(TIMEOUT_S), writing(self._engine).begin() as connection:
                await connection.execute(insert(policy_trial_look).values(values))

    async def looks(self, trial_id: str) -> list[dict[str, Any]]:
        """All points, oldest first, each with its time."""
        column = policy_trial_look.c
        wanted = select(column.at, column.figures).where(column.trial_id == trial_id).order_by(column.at)
        with asking():
            async with asyncio.timeout(TIMEOUT_S), self._engine.connect() as connection:
                return [{"at": row.at, **row.figures} for row in (await connection.execute(wanted)).all()]

    async def verdicts(self, trial_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The last verdict on each, with its time."""
        column = policy_trial_evidence.c
        wanted = select(column.trial_id, column.at, column.verdict).where(column.trial_id.in_(trial_ids))
        with asking():
            async with asyncio.timeout(TIMEOUT_S), self._engine.connect() as connection:
                rows = (await connection.execute(wanted)).all()
        return {row.trial_id: {"at": row.at, **row.verdict} for row in rows if row.verdict is not None}

    async def _free(self, trial_id: str, now: float) -> bool:
        """Looked at first, since most processes hold nothing, and a write would make others wait."""
        column = policy_trial_evidence.c
        wanted = select(column.holder, column.held_until).where(column.trial_id == trial_id)
        with asking():
            async with asyncio.timeout(TIMEOUT_S), self._engine.connect() as connection:
                row = (await connection.execute(wanted)).one_or_none()
        return row is None or row.holder == self._holder or row.held_until < now
