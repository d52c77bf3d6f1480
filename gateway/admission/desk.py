"""Where money and room are set aside and given back: the store, or the spare while the store is away.

Knows leases by their holds only; what walks over needs, and who pays for what, is others' business.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Protocol

from gateway.admission.base import Need
from gateway.admission.bounds import Bounds
from gateway.admission.gauges import Demand, Gauges, GaugesUnavailable, Granted, Refused, Settlement
from gateway.admission.refusal_memory import RefusalMemory
from gateway.admission.refusals import budget_store_unavailable
from gateway.admission.rules import Budget

STORE_RETRY_S: Final = 1.0


class Alerts(Protocol):
    """Who is told of soft budgets that are exceeded."""

    def exceeded(self, budget: Budget) -> None:
        """Never waits, never raises; called again and again while the budget is exceeded."""


@dataclass(slots=True)
class Counts:
    """What happened since the start; `leases_unsettled` is a bug where it isn't 0."""

    leases_granted: int = 0
    leases_unsettled: int = 0
    leases_left_at_close: int = 0
    leases_expired: int = 0
    refused_by_rate: int = 0
    refused_by_budget: int = 0
    refused_from_memory: int = 0
    refused_without_price: int = 0
    refused_store_away: int = 0
    store_away: int = 0
    granted_uncounted: int = 0
    soft_budget_warnings: int = 0


@dataclass(slots=True, eq=False)
class Held:
    """What is set aside for one call. `in_store`: the store has granted it; `uncounted`: it goes on without the store;
    `spare`: what the spare has."""

    lease_id: str
    bounds: Bounds
    demand: Demand
    granted: Granted
    in_store: bool = True
    uncounted: bool = False
    spare: Demand | None = None
    reserved_nanousd: int = 0
    warned: tuple[Budget, ...] = ()

    @property
    def hard(self) -> bool:
        """Whether the cost must stay within what is reserved."""
        return self.bounds.hard and not self.uncounted

    def covers(self, bounds: Bounds, need: Need) -> bool:
        """Whether this is exactly what another endpoint needs, so that the store need not be asked."""
        same = need.cost_nanousd == self.reserved_nanousd and need.tokens == self.demand.tokens
        return same and bounds is self.bounds and self.in_store

    @property
    def most_nanousd(self) -> int:
        """What is charged where nobody can tell the real cost."""
        return self.reserved_nanousd if self.in_store else self.demand.cost_nanousd


@dataclass(slots=True)
class Desk:
    """One per process; `alive` are the holds that nobody has released yet, `dropped` ids of leases that were lost."""

    gauges: Gauges
    spare: Gauges
    alerts: Alerts | None
    memory: RefusalMemory = field(default_factory=RefusalMemory)
    counts: Counts = field(default_factory=Counts)
    alive: dict[str, Held] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    _prefix: str = field(default_factory=lambda: secrets.token_hex(8))
    _numbers: count[int] = field(default_factory=count)

    async def set_aside(self, bounds: Bounds, need: Need, fail_open: bool, old: Held | None = None) -> Held | Refused:
        """Money and room for `need`, in place of `old`, or the refusal, with `old` as it was.

        Raises `BudgetStoreUnavailable`; then `old` stays, but no longer holds anything if the store was asked.
        """
        demand = Demand(bounds.rules, need.cost_nanousd, need.tokens)
        lease_id = self._new_id()
        replacing = old.lease_id if old is not None and old.in_store else None
        try:
            outcome = await self.gauges.admit(lease_id, demand, replacing)
        except GaugesUnavailable as error:
            if error.asked:
                self._undo(lease_id, demand, old)
            return await self._without_store(bounds, demand, fail_open, old)
        except BaseException:
            self._undo(lease_id, demand, old)
            raise
        if isinstance(outcome, Refused):
            self._remember(bounds, outcome, need.tokens)
            return outcome
        hold = Held(lease_id, bounds, demand, outcome, reserved_nanousd=need.cost_nanousd)
        if outcome.warned:
            self._warn(hold)
        self._replace(old, hold, replaced=replacing is not None)
        return hold

    async def _without_store(self, bounds: Bounds, demand: Demand, fail_open: bool, old: Held | None) -> Held | Refused:
        """Rate limits go on in this process, with its share; hard budgets refuse unless the policy lets them pass."""
        self.counts.store_away += 1
        if bounds.hard and not fail_open:
            self.counts.refused_store_away += 1
            raise budget_store_unavailable(bounds.rules.budgets, STORE_RETRY_S)
        # A new id: whatever becomes of the first one in the store, the cost is settled on this one, and only the cost,
        # since the store has counted neither request nor tokens.
        owed = Demand(bounds.budgets_only, demand.cost_nanousd, demand.tokens)
        hold = Held(self._new_id(), bounds, owed, Granted(), in_store=False, uncounted=True)
        if bounds.limits_only.limits:
            spare = Demand(bounds.limits_only, 0, demand.tokens)
            replacing = old.lease_id if old is not None and old.spare is not None else None
            outcome = await self.spare.admit(hold.lease_id, spare, replacing)
            if isinstance(outcome, Refused):
                self._remember(bounds, outcome, demand.tokens, spare=True)
                return outcome
            hold.granted, hold.spare = outcome, spare
        if bounds.hard:
            self.counts.granted_uncounted += 1
        self._replace(old, hold, replaced=False)
        return hold

    def release(self, hold: Held, cost_nanousd: int, tokens: int) -> None:
        """The end of a hold at its real cost; the store keeps what it can't settle now."""
        if self.alive.pop(hold.lease_id, None) is None:
            return
        if hold.in_store or hold.demand.rules.budgets:
            self.gauges.settle(Settlement(hold.lease_id, hold.demand, cost_nanousd, tokens))
        if hold.spare is not None:
            self.spare.settle(Settlement(hold.lease_id, hold.spare, 0, tokens))
        self.memory.released(hold.bounds.rules.limits)

    def release_dropped(self) -> None:
        """Charge leases that were lost without being settled with all that they had: more can't have been spent."""
        while self.dropped:
            hold = self.alive.get(self.dropped.pop())
            if hold is not None:
                self.counts.leases_unsettled += 1
                self.release(hold, hold.most_nanousd, hold.demand.tokens)

    def release_all(self) -> None:
        """Shutdown: what is still held is charged whole, as it would be if this process had died."""
        for hold in list(self.alive.values()):
            self.counts.leases_left_at_close += 1
            self.release(hold, hold.most_nanousd, hold.demand.tokens)

    def _replace(self, old: Held | None, hold: Held, replaced: bool) -> None:
        self.alive[hold.lease_id] = hold
        self.counts.leases_granted += 1
        if old is None:
            return
        if replaced:
            del self.alive[old.lease_id]
            if old.spare is not None:
                self.spare.settle(Settlement(old.lease_id, old.spare, 0, 0))
        else:
            self.release(old, 0, 0)

    def _undo(self, lease_id: str, demand: Demand, old: Held | None) -> None:
        """Nobody knows whether the store has taken the step: give back what it may have set aside for the new lease,
        and what it may still hold for the old one. Whatever that call costs is then settled under another id."""
        self.gauges.settle(Settlement(lease_id, demand, 0, 0))
        if old is not None and old.in_store:
            del self.alive[old.lease_id]
            self.gauges.settle(Settlement(old.lease_id, old.demand, 0, 0))
            old.lease_id, old.in_store, old.reserved_nanousd = self._new_id(), False, 0
            old.demand = Demand(old.bounds.budgets_only, old.demand.cost_nanousd, old.demand.tokens)
            self.alive[old.lease_id] = old

    def _remember(self, bounds: Bounds, refused: Refused, tokens: int, spare: bool = False) -> None:
        limit = bounds.limit(refused.rule_id)
        if limit is not None:
            self.memory.remember(limit, refused, tokens, spare)

    def _warn(self, hold: Held) -> None:
        budgets = tuple(one for one in hold.bounds.rules.budgets if one.id in hold.granted.warned)
        hold.warned = budgets
        self.counts.soft_budget_warnings += len(budgets)
        if self.alerts is not None:
            for budget in budgets:
                self.alerts.exceeded(budget)

    def _new_id(self) -> str:
        return f"{self._prefix}{next(self._numbers):x}"
