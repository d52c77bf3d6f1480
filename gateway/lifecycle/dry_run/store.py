"""Dry runs and what they found, in SQL; one at a time, whoever asks. Every method raises `DatabaseUnavailable`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.admission.ids import new_id
from gateway.ledger.acts import acting
from gateway.ledger.engine import writing
from gateway.ledger.faults import asking
from gateway.ledger.lifecycle_tables import policy_report
from gateway.ledger.rows import clean

# Who runs one says so every few seconds; after this long it is taken for dead.
DEAD_S: Final = 60.0
STOPPED: Final = "the process that ran it stopped before it was done: start it again"
RUNNING: Final = "running"
CANCELLED: Final = "cancelled"
_LIGHT: Final = tuple(one for one in policy_report.columns if one.name not in ("result", "body"))


@dataclass(frozen=True, slots=True)
class Asked:
    """What is wanted: the last requests, of the last days where that is given, and how sure intervals are to be."""

    last: int = 50_000
    days: float | None = None
    delta: float = 0.05
    effective_rows: float = 50.0


@dataclass(frozen=True, slots=True)
class Report:
    """One dry run; `done` is a share of 1, times are Unix seconds. Lists leave `body` and `result` out."""

    id: str
    policy: str
    version_id: int | None
    sha256: str
    state: str
    stage: str
    done: float
    actor: str
    asked: Mapping[str, Any]
    created_at: float
    seen_at: float
    ended_at: float | None
    error: str | None
    body: str = ""
    result: Mapping[str, Any] | None = None


class Busy(ValueError):
    """Another dry run is not done yet."""

    def __init__(self, running: str) -> None:
        super().__init__(f"the dry run {running} is not done yet: wait for it, or cancel it")
        self.running = running


class ReportStore:
    """The table of reports."""

    def __init__(self, engine: AsyncEngine, now: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._now = now

    async def begin(self, policy: str, body: str, version_id: int | None, asked: Asked, *, actor: str) -> str:
        """The id of a new one, which the caller is to run; `Busy` while another is."""
        now, report_id = self._now(), new_id()
        sha256 = hashlib.sha256(body.encode()).hexdigest()
        async with acting(self._engine, actor) as act:
            await self._bury(act.connection, now)
            running = await act.connection.scalar(select(policy_report.c.id).where(policy_report.c.state == RUNNING))
            if running is not None:
                raise Busy(str(running))
            values = {
                "id": report_id,
                "policy": policy,
                "version_id": version_id,
                "body": body,
                "sha256": sha256,
                "state": RUNNING,
                "stage": "starting",
                "done": 0.0,
                "actor": clean(actor),
                "asked": asdict(asked),
                "created_at": now,
                "seen_at": now,
            }
            await act.connection.execute(insert(policy_report).values(values))
            detail = {"report": report_id, "version": version_id, "sha256": sha256}
            await act.done("policy.dry_run", policy, detail)
        return report_id

    async def note(self, report_id: str, stage: str, done: float) -> bool:
        """How far it is; False where it was cancelled meanwhile."""
        return await self._write(report_id, stage=stage, done=done, seen_at=self._now())

    async def finish(self, report_id: str, result: Mapping[str, Any]) -> bool:
        """What was found."""
        now = self._now()
        return await self._write(
            report_id, state="done", stage="", done=1.0, seen_at=now, ended_at=now, result=dict(result)
        )

    async def fail(self, report_id: str, error: str) -> bool:
        """Why it could not be done."""
        return await self._write(report_id, state="failed", ended_at=self._now(), error=clean(error[:2000]))

    async def cancel(self, report_id: str, *, actor: str) -> bool:
        """Whether there was anything to cancel."""
        async with acting(self._engine, actor) as act:
            values = {"state": CANCELLED, "ended_at": self._now()}
            done = update(policy_report).where(policy_report.c.id == report_id, policy_report.c.state == RUNNING)
            if not (await act.connection.execute(done.values(values))).rowcount:
                return False
            await act.done("policy.dry_run.cancel", report_id, {})
        return True

    async def get(self, report_id: str) -> Report | None:
        """One, whole."""
        with asking():
            async with writing(self._engine).begin() as connection:
                await self._bury(connection, self._now())
                wanted = select(policy_report).where(policy_report.c.id == report_id)
                row = (await connection.execute(wanted)).one_or_none()
        return None if row is None else _report(row)

    async def list(self, policy: str | None = None, limit: int = 50) -> list[Report]:
        """The newest first."""
        wanted = select(*_LIGHT).order_by(policy_report.c.created_at.desc(), policy_report.c.id).limit(limit)
        if policy is not None:
            wanted = wanted.where(policy_report.c.policy == policy)
        with asking():
            async with writing(self._engine).begin() as connection:
                await self._bury(connection, self._now())
                return [_report(row) for row in (await connection.execute(wanted)).all()]

    async def _write(self, report_id: str, **values: Any) -> bool:
        wanted = update(policy_report).where(policy_report.c.id == report_id, policy_report.c.state == RUNNING)
        with asking():
            async with writing(self._engine).begin() as connection:
                return bool((await connection.execute(wanted.values(**values))).rowcount)

    async def _bury(self, connection: AsyncConnection, now: float) -> None:
        dead = update(policy_report).where(policy_report.c.state == RUNNING, policy_report.c.seen_at < now - DEAD_S)
        await connection.execute(dead.values(state="failed", ended_at=now, error=STOPPED))


def _report(row: Row[Any]) -> Report:
    return Report(**row._mapping)
