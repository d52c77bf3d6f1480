"""Trials in SQL. Every change is one act: the row, what tells running gateways, and the line in the audit log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import time
from typing import Any, Final

from sqlalchemy import Row, Select, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.admission.rule_store import subject_of
from gateway.admission.rules import Scope
from gateway.ledger.acts import TRIAL, Change, acting
from gateway.ledger.faults import asking
from gateway.ledger.rows import clean
from gateway.ledger.trial_tables import policy_trial
from gateway.lifecycle.trials.terms import Limits, Mode, State, Trial

TIMEOUT_S: Final = 5.0


class AlreadyRunning(ValueError):
    """A trial of this policy runs for this scope."""

    def __init__(self, found: Trial) -> None:
        self.found = found
        where = f" for {found.scope}" if found.scope else ""
        super().__init__(f"the trial {found.id} of policy '{found.policy}' runs{where}; stop it first")


class NoSuchTrial(ValueError):
    """There is none of this id."""


class StaleTrial(ValueError):
    """Somebody else was quicker, or it has ended: `found` is how it stands."""

    def __init__(self, found: Trial) -> None:
        self.found = found
        super().__init__(f"the trial {found.id} was changed meanwhile: it is {found.state}, revision {found.revision}")


class TrialStore:
    """Every method raises `DatabaseUnavailable` where the database does not answer."""

    def __init__(self, engine: AsyncEngine, now: Callable[[], float] = time) -> None:
        self._engine = engine
        self._now = now

    async def create(self, trial: Trial, detail: Mapping[str, object]) -> Trial:
        """Start it; raises `AlreadyRunning`, and `RefusedField` where the scope's subject does not exist."""
        async with acting(self._engine, trial.actor) as act:
            trial = replace(trial, scope=await _subject(act.connection, trial.scope))
            same = (policy_trial.c.policy == trial.policy) & (policy_trial.c.scope == trial.scope)
            running = select(policy_trial).where(same, policy_trial.c.state == State.RUNNING)
            other = (await act.connection.execute(running)).first()
            if other is not None:
                raise AlreadyRunning(_trial(other))
            await act.connection.execute(insert(policy_trial).values(**_values(trial)))
            await act.done("trial.start", trial.policy, {"trial": trial.id, **detail}, Change(TRIAL, trial.id))
        return trial

    async def change(
        self,
        trial_id: str,
        action: str,
        *,
        actor: str,
        if_revision: int | None = None,
        detail: Mapping[str, object] | None = None,
        **values: Any,
    ) -> Trial:
        """Change a running trial; an end gets its time. Raises `NoSuchTrial`, and `StaleTrial` where it has ended or
        is not at `if_revision`."""
        async with acting(self._engine, actor) as act:
            found = await self._living(act.connection, trial_id, if_revision)
            if values.get("state", State.RUNNING) != State.RUNNING:
                values["ended_at"] = self._now()
            raised = {**values, "revision": found.revision + 1}
            where = policy_trial.c.id == trial_id
            changed = update(policy_trial).where(where).values(**_stored(raised)).returning(policy_trial)
            trial = _trial((await act.connection.execute(changed)).one())
            told = {"trial": trial.id, "version": trial.version_id, "scope": trial.scope, **_plain(values)}
            await act.done(action, trial.policy, {**told, **(detail or {})}, Change(TRIAL, trial.id))
        return trial

    async def note(self, trial: Trial, action: str, actor: str, detail: Mapping[str, object]) -> None:
        """A line in the audit log about a trial that goes on unchanged."""
        async with acting(self._engine, actor) as act:
            await act.done(action, trial.policy, {"trial": trial.id, "version": trial.version_id, **detail})

    async def get(self, trial_id: str) -> Trial:
        """One trial; raises `NoSuchTrial`."""
        with asking():
            async with asyncio.timeout(TIMEOUT_S), self._engine.connect() as connection:
                return await _read(connection, trial_id)

    async def newest(self, policy: str | None = None, limit: int = 100) -> list[Trial]:
        """The newest first."""
        wanted = select(policy_trial).order_by(policy_trial.c.started_at.desc()).limit(limit)
        return await self._all(wanted if policy is None else wanted.where(policy_trial.c.policy == clean(policy)))

    async def running(self) -> Sequence[Trial]:
        """Those that go on, oldest first."""
        wanted = select(policy_trial).where(policy_trial.c.state == State.RUNNING)
        return await self._all(wanted.order_by(policy_trial.c.started_at))

    async def _all(self, wanted: Select[Any]) -> list[Trial]:
        with asking():
            async with asyncio.timeout(TIMEOUT_S), self._engine.connect() as connection:
                return [_trial(row) for row in (await connection.execute(wanted)).all()]

    async def _living(self, connection: AsyncConnection, trial_id: str, if_revision: int | None) -> Trial:
        found = await _read(connection, trial_id)
        if found.state is not State.RUNNING or if_revision not in (None, found.revision):
            raise StaleTrial(found)
        return found


async def _subject(connection: AsyncConnection, scope: str) -> str:
    """The scope that is matched with callers: of a rotated key its line's."""
    kind, _, subject = scope.partition(":")
    return f"{kind}:{await subject_of(connection, Scope(kind), subject)}" if scope else scope


async def _read(connection: AsyncConnection, trial_id: str) -> Trial:
    row = (await connection.execute(select(policy_trial).where(policy_trial.c.id == clean(trial_id)))).one_or_none()
    if row is None:
        raise NoSuchTrial(f"there is no trial '{trial_id[:80]}'")
    return _trial(row)


def _values(trial: Trial) -> dict[str, Any]:
    return _stored({name: getattr(trial, name) for name in Trial.__slots__})


def _stored(values: Mapping[str, Any]) -> dict[str, Any]:
    texts = {name: clean(value) if isinstance(value, str) else value for name, value in values.items()}
    limits = {name: value.to_json() for name, value in texts.items() if isinstance(value, Limits)}
    return {**texts, **limits}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in _stored(values).items() if name != "ended_at"}


def _trial(row: Row[Any]) -> Trial:
    found = dict(row._mapping)
    found |= {"mode": Mode(row.mode), "state": State(row.state), "limits": Limits.from_json(row.limits)}
    return Trial(**found)
