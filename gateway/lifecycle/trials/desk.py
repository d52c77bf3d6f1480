"""What an admin does to trials, whoever asks for it (API, command line, console, the judge): start, change, end.

Raises `GatewayError`s that name the field, and `DatabaseUnavailable`. Knows no HTTP.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import time
from typing import Any, Final

from gateway.admission.terms import RefusedField
from gateway.errors import Conflict, InvalidRequest, NotFound, Stale
from gateway.lifecycle.policy_desk import PolicyDesk
from gateway.lifecycle.policy_sources import named
from gateway.lifecycle.policy_store import ActivePolicy, PolicyStore, policy_key
from gateway.lifecycle.policy_versions import SCOPES, PolicyVersions, VersionRow
from gateway.lifecycle.trials.reading import TrialReader, Usual
from gateway.lifecycle.trials.store import AlreadyRunning, NoSuchTrial, StaleTrial, TrialStore
from gateway.lifecycle.trials.terms import TOLERANCES, Limits, Metric, Mode, State, Trial, field_fault
from policies.errors import PolicyError
from policies.load import parse_policy

# Of what is usual before a trial: which quantile is slow from then on, and at how much of which one costs are cut.
SLOW_QUANTILE: Final = 0.9
CAP_QUANTILE: Final = 0.99
CAP_TIMES: Final = 4.0
LEAST_USUAL: Final = 30
CHANGED: Final = "What is in force was changed since the trial began: stop it, and start another."


_ACTIONS: Final = {
    State.ROLLED_BACK: "trial.rollback",
    State.FAILED: "trial.fail",
    State.STOPPED: "trial.stop",
    State.PROMOTED: "trial.promote",
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What an admin asks for; `tolerance` None: the usual ones, for all metrics that can be judged."""

    policy: str
    version: int
    mode: Mode
    share: float
    scope: str = ""
    note: str = ""
    tolerance: Mapping[Metric, float] | None = None
    limits: Limits = field(default_factory=lambda: Limits({}))


class TrialDesk:
    """One for all who ask."""

    def __init__(
        self,
        store: TrialStore,
        reader: TrialReader,
        policies: PolicyStore,
        policy_desk: PolicyDesk,
        versions: PolicyVersions,
        now: Callable[[], float] = time,
    ) -> None:
        self._store = store
        self._reader = reader
        self._policies = policies
        self._policy_desk = policy_desk
        self._versions = versions
        self._now = now

    async def start(self, wish: Wish, actor: str) -> Trial:
        """Begin; every worker takes part within a second."""
        fault = field_fault(wish.mode, wish.share, replace(wish.limits, tolerance=wish.tolerance or {}))
        if fault is not None:
            raise InvalidRequest(f"'{fault[0]}' {fault[1]}.", param=fault[0])
        control = self.control(wish.policy, wish.scope)
        await self._must_serve(wish, control)
        limits = await self._limits(wish)
        trial = Trial(
            id=f"trial_{secrets.token_hex(8)}",
            policy=wish.policy,
            version_id=wish.version,
            scope=wish.scope,
            mode=wish.mode,
            share=wish.share,
            state=State.RUNNING,
            started_at=self._now(),
            actor=actor,
            limits=limits,
            control_sha256=control.sha256,
            note=wish.note,
        )
        detail = {"version": wish.version, "scope": wish.scope, "mode": wish.mode, "share": wish.share}
        with _told():
            return await self._store.create(trial, {**detail, "limits": limits.to_json(), "note": wish.note})

    async def get(self, trial_id: str) -> Trial:
        """One trial."""
        with _told():
            return await self._store.get(trial_id)

    async def share(self, trial_id: str, share: float, *, actor: str, if_revision: int | None = None) -> Trial:
        """Give the draft more or less; who was in the canary arm of a smaller share stays there."""
        with _told():
            trial = await self._store.get(trial_id)
            fault = field_fault(trial.mode, share, trial.limits)
            if fault is not None:
                raise InvalidRequest(f"'{fault[0]}' {fault[1]}.", param=fault[0])
            detail = {"before": trial.share}
            return await self._store.change(
                trial_id, "trial.share", actor=actor, if_revision=if_revision, detail=detail, share=share
            )

    async def end(
        self,
        trial_id: str,
        state: State,
        reason: str,
        *,
        actor: str,
        if_revision: int | None = None,
        figures: Mapping[str, Any] | None = None,
    ) -> Trial:
        """Everybody is served by what is in force again. For a promotion see `promote`."""
        action = _ACTIONS[state]
        detail = {"figures": figures} if figures is not None else {}
        with _told():
            return await self._store.change(
                trial_id, action, actor=actor, if_revision=if_revision, detail=detail, state=state, reason=reason
            )

    async def promote(
        self,
        trial_id: str,
        reason: str,
        *,
        actor: str,
        if_revision: int | None = None,
        figures: Mapping[str, Any] | None = None,
    ) -> Trial:
        """Put the draft in force for the trial's scope, and end the trial.

        What was in force when the trial began must be so still: else it was compared with something else.
        """
        with _told():
            trial = await self._store.get(trial_id)
            if trial.state is not State.RUNNING or if_revision not in (None, trial.revision):
                raise StaleTrial(trial)
            if await self.changed(trial):
                raise Conflict(CHANGED)
            pointer = await self._policy_desk.activate(
                trial.policy,
                await self._ready(trial, actor),
                actor=actor,
                scope=trial.scope,
                note=f"{trial.id}: {reason}",
            )
            detail = {"figures": figures, "in_force": pointer.version_id, "policy_revision": pointer.revision}
            try:
                return await self._store.change(
                    trial_id, "trial.promote", actor=actor, detail=detail, state=State.PROMOTED, reason=reason
                )
            except StaleTrial as error:
                if error.found.state is State.PROMOTED:  # another process has seen what is in force now
                    return error.found
                raise

    async def changed(self, trial: Trial) -> bool:
        """Whether another policy is in force than that which the draft is compared with. One that this process can't
        load says nothing."""
        if self.control(trial.policy, trial.scope).sha256 == trial.control_sha256:
            return False
        await self._policy_desk.take_up()
        refused = self._policies.refused
        if trial.policy in refused or policy_key(trial.policy, trial.scope) in refused:
            return False
        return self.control(trial.policy, trial.scope).sha256 != trial.control_sha256

    async def in_force(self, trial: Trial) -> bool:
        """Whether the draft is."""
        row = await self.version(trial.policy, trial.version_id)
        try:
            draft = parse_policy(row.body, named(row))
        except PolicyError:
            return False
        return draft.sha256() == self.control(trial.policy, trial.scope).sha256

    def control(self, policy: str, scope: str) -> ActivePolicy:
        """What is in force for a scope."""
        kind, _, subject = scope.partition(":")
        if scope and (kind not in SCOPES or not subject or len(scope) > 300 or "\0" in scope):
            raise InvalidRequest("'scope' is empty (everybody), organisation:ID, team:ID or key:ID.", param="scope")
        found = self._policies.get(policy_key(policy, scope)) or self._policies.current(policy)
        if found is None:
            raise NotFound(f"There is no policy '{policy[:80]}' in force to compare with.", param="policy")
        return found

    async def version(self, policy: str, version_id: int) -> VersionRow:
        """A version of a policy."""
        row = await self._versions.version(version_id)
        if row is None or row.name != policy:
            raise NotFound(f"The policy '{policy[:80]}' has no version {version_id}.", param="version")
        return row

    async def _must_serve(self, wish: Wish, control: ActivePolicy) -> None:
        row = await self.version(wish.policy, wish.version)
        try:
            policy = parse_policy(row.body, named(row))
            if policy.name != wish.policy:
                raise Conflict(f"Version {row.id} is of a policy named '{policy.name}'.", param="version")
            await self._policies.tried(policy, named(row))
        except PolicyError as error:
            raise Conflict(f"Version {row.id} can't serve: {error}", param="version") from error
        if policy.pacing != control.policy.pacing:
            raise Conflict(
                "The draft's [pacing] differs from that in force, and both arms spend of one budget: make them equal.",
                param="version",
            )

    async def _ready(self, trial: Trial, actor: str) -> int:
        """The version's number; a draft becomes ready by being saved again as such."""
        row = await self.version(trial.policy, trial.version_id)
        if row.state == "ready":
            return row.id
        saved, _ = await self._policy_desk.save(
            row.name, row.body, author=actor, note=f"ready by {trial.id}", state="ready", parent_id=row.id
        )
        return saved.id

    async def _limits(self, wish: Wish) -> Limits:
        """With what is judged, by what is usual before the trial; fixed for its whole length."""
        if wish.mode is Mode.SHADOW:
            return wish.limits
        usual = await self._reader.usual(wish.policy, self._now())
        limits = _measured(wish.limits, usual)
        found, left_out = {}, {}
        for metric, tolerance in (TOLERANCES if wish.tolerance is None else wish.tolerance).items():
            why = _unknown(metric, limits, usual, asked_for=wish.tolerance is not None)
            if not why:
                found[metric] = tolerance
            elif wish.tolerance is None:
                left_out[metric] = why
            else:
                raise InvalidRequest(f"'tolerance.{metric}': {why}.", param=f"tolerance.{metric}")
        if not found:
            raise InvalidRequest("'tolerance' must have one metric at least.", param="tolerance")
        return replace(limits, tolerance=found, left_out=left_out)


def _measured(limits: Limits, usual: Usual) -> Limits:
    """With thresholds from what is usual, where none are given."""
    times, costs = usual.total_ms, usual.cost_nanousd
    if limits.slow_ms is None and len(times) >= LEAST_USUAL:
        limits = replace(limits, slow_ms=max(_quantile(times, SLOW_QUANTILE), 0.001))
    if limits.cost_cap_nanousd is None and len(costs) >= LEAST_USUAL and costs[-1] > 0:
        limits = replace(limits, cost_cap_nanousd=max(round(CAP_TIMES * _quantile(costs, CAP_QUANTILE)), 1))
    return limits


def _unknown(metric: Metric, limits: Limits, usual: Usual, *, asked_for: bool) -> str:
    """Why a metric can't be judged; empty where it can."""
    if metric is Metric.LATENCY and limits.slow_ms is None:
        return f"fewer than {LEAST_USUAL} earlier requests say what is slow; give slow_ms"
    if metric is Metric.COST and limits.cost_cap_nanousd is None:
        return f"fewer than {LEAST_USUAL} earlier requests with a cost say what is much; give cost_cap_nanousd"
    if metric is Metric.FEEDBACK and not usual.judged and not asked_for:
        return "none of the policy's latest requests was judged; name it in tolerance where feedback is to come"
    return ""


def _quantile(ascending: tuple[float, ...] | tuple[int, ...], share: float) -> float:
    return float(ascending[min(int(share * len(ascending)), len(ascending) - 1)])


@contextmanager
def _told() -> Iterator[None]:
    """What the store refuses, as clients are told."""
    try:
        yield
    except NoSuchTrial as error:
        raise NotFound(_sentence(error), param="trial_id") from error
    except RefusedField as error:
        raise NotFound(str(error), param="scope") from error
    except AlreadyRunning as error:
        raise Conflict(_sentence(error), param="policy") from error
    except StaleTrial as error:
        ended = error.found.state is not State.RUNNING
        raise (Conflict if ended else Stale)(_sentence(error), param="if-match") from error


def _sentence(error: Exception) -> str:
    said = str(error)
    return f"{said[:1].upper()}{said[1:]}."
