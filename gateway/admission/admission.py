"""Admission: walks over what a call's endpoints would need until budgets and limits cover one. Knows no store."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from gateway.admission.base import Lease, Need
from gateway.admission.bounds import UNBOUNDED, Bounds, BoundsBook, ModelRules
from gateway.admission.desk import Alerts, Desk, Held
from gateway.admission.gauges import Expired, Gauges, Kind, Refused
from gateway.admission.lease import GaugedLease
from gateway.admission.refusal_memory import RefusalMemory
from gateway.admission.refusals import budget_exceeded, price_unknown, rate_limited
from gateway.admission.rules import Caller, Scope
from gateway.admission.upkeep import Rounds, Upkeep
from gateway.errors import GatewayError

# Each is a round trip to the store; endpoints that it would refuse for the same reason are not asked about.
MOST_ASKED: Final = 4


@dataclass(slots=True)
class _Walk:
    """What was learnt on the way: money free in budgets that refused, limits that are reached, models without price."""

    short: dict[str, int] = field(default_factory=dict)
    reached: set[str] = field(default_factory=set)
    unpriced: list[str] = field(default_factory=list)
    asked: int = 0
    refusal: GatewayError | None = None
    final: bool = False

    def is_hopeless(self, bounds: Bounds, need: Need) -> bool:
        """Whether what refused another need before would refuse this one, too."""
        if self.short and any(
            need.cost_nanousd > max(self.short.get(one.id, need.cost_nanousd), 0) for one in bounds.rules.budgets
        ):
            return True
        return bool(self.reached) and any(one.id in self.reached for one in bounds.rules.limits)


class GaugedAdmission:
    """Implements `Admission` over a store of gauges shared by all processes, and a spare of this process alone.

    `spare` gets rate limits only, while `gauges` is away; it should give out this process' share of them.
    `on_expired` is told of leases of processes that died, once each.
    """

    def __init__(
        self,
        *,
        gauges: Gauges,
        spare: Gauges,
        rulebook: ModelRules,
        on_expired: Callable[[Expired], None],
        alerts: Alerts | None = None,
        rounds: Rounds | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._book = BoundsBook(rulebook)
        self._desk = Desk(gauges, spare, alerts, RefusalMemory(clock))
        self._upkeep = Upkeep(self._desk, on_expired, rounds or Rounds())
        self._now = now

    async def start(self) -> None:
        """Begin to look after leases; does not fail while the store is away."""
        await self._upkeep.start()

    async def close(self, timeout_s: float) -> None:
        """Settle what is left and wait until the store has it all, at most `timeout_s` seconds."""
        await self._upkeep.close(timeout_s)

    def stats(self) -> Mapping[str, float]:
        """Counts since the start, and how many leases are held now."""
        return {"leases_held": len(self._desk.alive), **asdict(self._desk.counts)}

    def precheck(self, caller: Caller) -> None:
        """Raise `RateLimited` at once for a caller who was just refused and can't have room yet."""
        limits = caller.rules.limits
        refusal = self._desk.memory.any_call(limits) if limits else None
        if refusal is not None:
            self._desk.counts.refused_from_memory += 1
            raise refusal

    async def admit(self, caller: Caller, tags: Sequence[str], needs: Sequence[Need], fail_open: bool) -> Lease:
        """A lease for the first of `needs` that budgets and limits cover; see `Admission`."""
        walk: _Walk | None = None
        for place, need in enumerate(needs):
            bounds = self._book.of(caller, need.card.id, tags)
            if bounds is UNBOUNDED:
                return GaugedLease(self._desk, self._book, caller, tags, fail_open, place, None)
            walk = walk or _Walk()
            hold = await self._try(walk, bounds, need, fail_open)
            if hold is not None:
                return GaugedLease(self._desk, self._book, caller, tags, fail_open, place, hold)
            if walk.final or walk.asked >= MOST_ASKED:
                break
        raise self._refusal(walk)

    async def _try(self, walk: _Walk, bounds: Bounds, need: Need, fail_open: bool) -> Held | None:
        """What was set aside for one need, or None with the reason noted in `walk`."""
        if bounds.hard and not need.card.priced:
            walk.unpriced.append(need.card.id)
            return None
        if walk.is_hopeless(bounds, need):
            return None
        remembered = self._desk.memory.one_call(bounds.rules.limits, need.tokens)
        if remembered is not None:
            self._desk.counts.refused_from_memory += 1
            limit, walk.refusal = remembered
            walk.reached.add(limit.id)
            walk.final = limit.scope is not Scope.MODEL
            return None
        walk.asked += 1
        outcome = await self._desk.set_aside(bounds, need, fail_open)
        if isinstance(outcome, Held):
            return outcome
        self._note(walk, bounds, need, outcome)
        return None

    def _note(self, walk: _Walk, bounds: Bounds, need: Need, refused: Refused) -> None:
        if refused.kind is Kind.BUDGET:
            self._desk.counts.refused_by_budget += 1
            walk.short[refused.rule_id] = refused.free_nanousd
            budget = bounds.budget(refused.rule_id)
            walk.refusal = budget_exceeded(budget, refused, need.cost_nanousd, self._now())
            return
        self._desk.counts.refused_by_rate += 1
        limit = bounds.limit(refused.rule_id)
        walk.reached.add(refused.rule_id)
        walk.refusal = rate_limited(limit, refused, need.tokens)
        # A limit on the caller or a tag stands before every model alike.
        walk.final = limit is None or limit.scope is not Scope.MODEL

    def _refusal(self, walk: _Walk | None) -> GatewayError:
        if walk is None:
            raise ValueError("a call without needs can't be admitted")
        if walk.refusal is not None:
            return walk.refusal
        self._desk.counts.refused_without_price += 1
        return price_unknown(walk.unpriced)
