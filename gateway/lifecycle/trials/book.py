"""The trials that run, in memory: who is served by which draft, asked at every request.

A draft that can't be used in this process is left out here: everybody is served by what is in force, and no request of
this process counts for either arm.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.admission.rules import Caller
from gateway.incoming import Incoming
from gateway.ledger.acts import EVERYTHING, TRIAL, Change
from gateway.ledger.faults import DatabaseUnavailable
from gateway.lifecycle.policy_sources import named
from gateway.lifecycle.policy_store import ActivePolicy, PolicyStore, scopes_of
from gateway.lifecycle.policy_versions import PolicyVersions
from gateway.lifecycle.trials.assignment import Arm, place_of, unit_of
from gateway.lifecycle.trials.shadows import Decide, Shadows
from gateway.lifecycle.trials.store import TrialStore
from gateway.lifecycle.trials.terms import Mode, Trial
from gateway.meaning import Placing
from gateway.wire.chat_request import ChatRequest
from policies.errors import PolicyError
from policies.load import parse_policy
from routers.decision import Decision

log = logging.getLogger(__name__)

POLL_S: Final = 5.0
SESSION: Final = b"x-fingerpost-session"
Prepare = Callable[[ActivePolicy], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Running:
    """A trial whose draft is ready to serve in this process."""

    trial: Trial
    draft: ActivePolicy


class TrialBook:
    """One process'. `refused` says why a trial's draft is not used here."""

    def __init__(
        self, store: TrialStore, versions: PolicyVersions, policies: PolicyStore, prepare: Prepare, shadows: Shadows
    ) -> None:
        self._store = store
        self._versions = versions
        self._policies = policies
        self._prepare = prepare
        self._shadows = shadows
        self._running: Mapping[str, tuple[Running, ...]] = {}
        self._news = asyncio.Event()
        self._reading = asyncio.Lock()
        self.trials: Sequence[Trial] = ()
        self.refused: dict[str, str] = {}

    def placing(self, request: ChatRequest, incoming: Incoming, *, noted: bool = True) -> Placing | None:
        """Which policy serves a request in place of what is in force; None where no trial runs. `noted`: the request
        counts."""
        return partial(self._placed, request, incoming, noted) if self._running else None

    def follow(self, request: ChatRequest, incoming: Incoming, decision: Decision, decide: Decide) -> None:
        """A decision was made for a request; maybe a draft decides for it too, later, and serves nobody."""
        record = incoming.record
        if record.trial_id is None or record.trial_arm != Arm.SHADOW:
            return
        for one in self._running.get(decision.policy_name, ()):
            if one.trial.id == record.trial_id:
                self._shadows.put(one.draft, request, incoming, decision, decide)

    def drafts(self) -> list[ActivePolicy]:
        """Of all trials that run here."""
        return [one.draft for some in self._running.values() for one in some]

    def rebind(self) -> None:
        """Take the fleet's endpoints anew."""
        found = [Running(one.trial, self._policies.bound(one.draft)) for one in self._all()]
        self._running = _by_policy(found)

    def take_up(self, changes: Sequence[Change]) -> None:
        """Others have started, changed or ended a trial: `watch` need not wait for its next turn."""
        if any(one.what in (TRIAL, EVERYTHING) for one in changes):
            self._news.set()

    async def refresh(self) -> None:
        """Read what runs; raises `DatabaseUnavailable`."""
        async with self._reading:
            trials = await self._store.running()
            old = {one.trial.id: one for one in self._all()}
            found = [made for trial in trials if (made := await self._made(trial, old.get(trial.id))) is not None]
            self.refused = {key: why for key, why in self.refused.items() if key in {one.id for one in trials}}
            self.trials = trials
            self._running = _by_policy(found)

    async def watch(self, every_s: float = POLL_S) -> None:
        """Refresh for ever, when told to and at least as often. What hinders is said once."""
        complaint = ""
        while True:
            try:
                await self.refresh()
                complaint = ""
            except Exception as error:  # whatever it is, running trials stay as they are, and it is tried again
                if str(error) != complaint:
                    ours = not isinstance(error, DatabaseUnavailable)
                    log.error("trials stay as they were: %s", error, exc_info=ours)
                complaint = str(error)
            with suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await self._news.wait()
            self._news.clear()

    def _placed(self, request: ChatRequest, incoming: Incoming, noted: bool, active: ActivePolicy) -> ActivePolicy:
        caller = incoming.caller
        for one in self._running.get(active.policy.name, ()):
            trial = one.trial
            # Who has another policy in force than the one that the draft is compared with has no part in it.
            if active.sha256 == trial.control_sha256 and _within(trial.scope, caller):
                kind, record = trial.limits.unit, incoming.record
                place = place_of(trial.id, unit_of(kind, request, caller, record.id, incoming.text(SESSION)))
                arm = place.arm(trial.share)
                if trial.mode is Mode.SHADOW:
                    if arm is Arm.CONTROL:
                        return active
                    arm = Arm.SHADOW
                if noted:
                    record.trial_id, record.trial_arm = trial.id, arm
                    record.trial_unit, record.trial_share = place.unit, trial.share
                return one.draft if arm is Arm.CANARY else active
        return active

    async def _made(self, trial: Trial, old: Running | None) -> Running | None:
        if old is not None:
            return Running(trial, old.draft)
        try:
            row = await self._versions.version(trial.version_id)
            if row is None:
                raise ValueError(f"there is no version {trial.version_id}")
            source = named(row)
            draft = await self._policies.tried(parse_policy(row.body, source), source)
            await self._prepare(draft)
        except (PolicyError, ValueError) as error:
            if self.refused.get(trial.id) != str(error):
                log.error("trial %s is not taken part in here, what is in force serves all: %s", trial.id, error)
            self.refused[trial.id] = str(error)
            return None
        self.refused.pop(trial.id, None)
        return Running(trial, draft)

    def _all(self) -> Iterable[Running]:
        return [one for some in self._running.values() for one in some]


def _within(scope: str, caller: Caller) -> bool:
    return not scope or scope in scopes_of(caller)


def _by_policy(found: Iterable[Running]) -> Mapping[str, tuple[Running, ...]]:
    """The narrowest scope first, as for what is in force."""
    order = {"key": 0, "team": 1, "organisation": 2, "": 3}
    ranked = sorted(found, key=lambda one: order[one.trial.scope.partition(":")[0]])
    return {name: tuple(one for one in ranked if one.trial.policy == name) for name in {r.trial.policy for r in ranked}}
