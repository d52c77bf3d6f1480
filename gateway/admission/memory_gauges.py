"""Budgets and limits in the memory of one process: for a lone worker, and while a shared store is away.

What it knows is gone when the process ends. Knows no network and no database.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.admission.gauges import LEASE_S, Demand, Expired, Granted, Level, Refused, Settlement
from gateway.admission.memory_budgets import MemoryBudgets
from gateway.admission.memory_limits import Hold, MemoryLimits
from gateway.admission.recent import Recent
from gateway.admission.rules import Budget
from gateway.admission.windows import still_counts

# Leases that expired and may still be corrected.
MOST_CHARGED: Final = 4_096


@dataclass(slots=True, eq=False)
class _Lease:
    """What one call holds; `reserved_at_s` is when money was last set aside (wall clock)."""

    demand: Demand
    hold: Hold
    reserved: int
    reserved_at_s: float
    expires_at: float


@dataclass(slots=True, eq=False)
class _Charged:
    """What a lease that expired was charged, in the buckets of the moment `at_s`."""

    budgets: Sequence[Budget]
    cost: int
    at_s: float


class MemoryGauges:
    """`Gauges` without a store: no step waits, none fails, and each is atomic because nothing comes between.

    `share` is the part of every rate limit that this process gives out where several processes have no common store
    (never below 1; budgets are not shared out). Windows follow the wall clock `now`; rates and leases follow
    `monotonic`, so that a clock that is set locks nobody out. Memory is bounded by the running calls and by the rules
    that were used lately; only totals are kept for as long as the process lives.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        share: float = 1.0,
        lease_s: float = LEASE_S,
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._lease_s = lease_s
        self._limits = MemoryLimits(share, monotonic)
        self._budgets = MemoryBudgets()
        self._leases: dict[str, _Lease] = {}
        self._ended = Recent()
        self._charged: dict[str, _Charged] = {}

    async def admit(self, lease_id: str, demand: Demand, replacing: str | None = None) -> Granted | Refused:
        """See `Gauges.admit`; limits are looked at before budgets."""
        old = self._leases.get(replacing) if replacing is not None else None
        rules, cost = demand.rules, demand.cost_nanousd
        granted = self._limits.take(rules.limits, demand.tokens, old.hold if old is not None else None)
        if isinstance(granted, Refused):
            return granted
        hold = Hold(rules.limits, demand.tokens)
        now = self._now()
        if rules.budgets or (old is not None and old.reserved):
            given_up = (old.demand.rules.budgets, old.reserved) if old is not None else ((), 0)
            warned = self._budgets.reserve(rules.budgets, cost, now, *given_up)
            if isinstance(warned, Refused):
                self._limits.undo(hold, old.hold if old is not None else None)
                return warned
            if warned:
                granted = Granted(granted.requests, granted.tokens, warned)
        if old is not None and replacing is not None:
            self._limits.drop(old.hold, hold)
            del self._leases[replacing]
            self._ended.add(replacing)
        elif replacing is not None:
            self._correct(replacing, 0, now)
        self._leases[lease_id] = _Lease(demand, hold, cost, now, self._monotonic() + self._lease_s)
        return granted

    async def extend(self, lease_id: str, demand: Demand, more_nanousd: int) -> bool:
        """See `Gauges.extend`."""
        lease = self._leases.get(lease_id)
        if lease is None:
            return False
        now = self._now()
        if isinstance(self._budgets.reserve(lease.demand.rules.budgets, more_nanousd, now), Refused):
            return False
        lease.reserved += more_nanousd
        lease.reserved_at_s = now
        return True

    def settle(self, settlement: Settlement) -> None:
        """See `Gauges.settle`. The cost of a lease that was never granted here is booked, too, once."""
        lease_id, now = settlement.lease_id, self._now()
        lease = self._leases.pop(lease_id, None)
        if lease is not None:
            self._limits.settle(lease.hold, settlement.tokens)
            self._budgets.book(lease.demand.rules.budgets, settlement.cost_nanousd, lease.reserved, now, now)
        elif self._correct(lease_id, settlement.cost_nanousd, now):
            return
        elif lease_id not in self._ended:
            self._budgets.book(settlement.demand.rules.budgets, settlement.cost_nanousd, 0, now, now)
        self._ended.add(lease_id)

    async def renew(self, lease_ids: Sequence[str]) -> None:
        """See `Gauges.renew`."""
        until = self._monotonic() + self._lease_s
        for lease_id in lease_ids:
            lease = self._leases.get(lease_id)
            if lease is not None:
                lease.expires_at = until

    async def reap(self) -> Sequence[Expired]:
        """See `Gauges.reap`; in one process only a lease whose call was lost expires."""
        clock, now = self._monotonic(), self._now()
        found = []
        for lease_id in [one for one, lease in self._leases.items() if lease.expires_at < clock]:
            lease = self._leases.pop(lease_id)
            self._limits.settle(lease.hold, lease.hold.tokens)
            self._budgets.book(lease.demand.rules.budgets, lease.reserved, lease.reserved, lease.reserved_at_s, now)
            self._ended.add(lease_id)
            if lease.demand.rules.budgets:
                if len(self._charged) >= MOST_CHARGED:
                    del self._charged[next(iter(self._charged))]
                self._charged[lease_id] = _Charged(lease.demand.rules.budgets, lease.reserved, lease.reserved_at_s)
                found.append(Expired(lease_id, lease.reserved))
        return found

    def _correct(self, lease_id: str, cost: int, now_s: float) -> bool:
        """Whether the lease has expired and is charged its real cost instead of all that it had reserved."""
        charged = self._charged.pop(lease_id, None)
        if charged is None:
            return False
        budgets = [one for one in charged.budgets if still_counts(one.window, charged.at_s, now_s)]
        self._budgets.book(budgets, cost - charged.cost, 0, charged.at_s, now_s)
        return True

    async def levels(self, budgets: Sequence[Budget]) -> Sequence[Level]:
        """See `Gauges.levels`."""
        now = self._now()
        return [self._budgets.level(budget, now) for budget in budgets]

    async def start(self) -> None:
        """There is no background work."""

    async def drain(self, timeout_s: float) -> None:
        """Every settlement was carried out at once."""
