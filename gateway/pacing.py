"""Keeps each policy's paced budget: its multiplier of cost, and the hard budget that admission counts it in.

Knows policies, levels of budgets and time; how a multiplier moves is `routers.pacing`'s business.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from gateway.admission.gauges import Gauges, GaugesUnavailable
from gateway.admission.refusals import window_name
from gateway.admission.rules import Budget, Caller, Period, Rules, Scope, Window, WindowKind
from gateway.admission.windows import bucket_ends, bucket_of
from gateway.errors import BudgetExceeded
from policies.schema import Pacing, Policy
from routers.pacing import Pacer

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0
_MOST_CALLERS: Final = 4096


@dataclass(slots=True, eq=False)
class _Pace:
    """One policy's; it is made anew where the policy's `[pacing]` changes."""

    spec: Pacing
    budget: Budget
    rules: Rules
    pacer: Pacer
    callers: dict[int, tuple[Caller, Caller]]


class Paces:
    """One per process. Processes share a budget through the store of budgets: each reads there what all have spent and
    moves its own multiplier; between two looks it counts what its own calls are forecast to cost.

    `share` is the part of all calls that this process gets. While the store is away multipliers go on by forecasts.
    """

    def __init__(
        self, gauges: Gauges, share: float = 1.0, now: Callable[[], float] = time.time, every_s: float = LOOK_S
    ) -> None:
        self._gauges = gauges
        self._share = share
        self._now = now
        self._every_s = every_s
        self._paces: dict[str, _Pace] = {}

    def multiplier(self, policy: Policy) -> float:
        """What a policy's weight of cost is multiplied with now; 1 for policies without a pace."""
        return 1.0 if policy.pacing is None else self._of(policy, policy.pacing).pacer.multiplier

    def spend(self, policy: Policy, cost_nanousd: int) -> None:
        """A call is about to be made that is forecast to cost so much; it counts until the store tells the truth."""
        if policy.pacing is not None:
            self._of(policy, policy.pacing).pacer.spend(cost_nanousd)

    def refuse(self, policy: Policy, error: BudgetExceeded) -> None:
        """A call came that its budgets do not cover. Where the paced one refused it, the call was wanted all the same,
        and the caller is not told what all callers of the policy have spent together."""
        if policy.pacing is None:
            return
        pace = self._of(policy, policy.pacing)
        if error.budget_id == pace.budget.id:
            pace.pacer.refuse()
            error.message = (
                f"The {window_name(pace.budget.window)} budget of policy '{policy.name}' does not cover this call."
            )

    def bound(self, policy: Policy, caller: Caller) -> Caller:
        """The caller, bounded by the policy's paced budget too; the same object each time for the same caller."""
        if policy.pacing is None:
            return caller
        pace = self._of(policy, policy.pacing)
        kept = pace.callers.get(id(caller))
        if kept is None or kept[0] is not caller:
            if len(pace.callers) >= _MOST_CALLERS:
                pace.callers.clear()
            kept = pace.callers[id(caller)] = (caller, replace(caller, rules=caller.rules + pace.rules))
        return kept[1]

    async def look(self) -> None:
        """Read how all paced budgets stand; raises `GaugesUnavailable`."""
        paces = list(self._paces.values())
        if not paces:
            return
        levels = await self._gauges.levels([pace.budget for pace in paces])
        now_s = self._now()
        for pace, level in zip(paces, levels, strict=True):
            window = pace.budget.window
            spent = level.spent_nanousd + level.reserved_nanousd
            pace.pacer.look(now_s, bucket_of(window, now_s), bucket_ends(window, now_s), spent)

    async def run(self) -> None:
        """Look again and again. What hinders is said once."""
        complaint = ""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.look()
                complaint = ""
            except GaugesUnavailable as error:
                log.debug("pacing goes on by forecasts: %s", error)
            except Exception as error:
                if repr(error) != complaint:
                    log.exception("pacing goes on by forecasts")
                complaint = repr(error)

    def _of(self, policy: Policy, spec: Pacing) -> _Pace:
        pace = self._paces.get(policy.name)
        if pace is None or (pace.spec is not spec and pace.spec != spec):
            pace = self._paces[policy.name] = self._new(policy.name, spec)
        return pace

    def _new(self, name: str, spec: Pacing) -> _Pace:
        window = Window(WindowKind.CALENDAR, Period(spec.period))
        limit = round(spec.budget_usd * 1e9)
        budget = Budget(f"pacing:{name}:{spec.period}", Scope.TAG, f"policy:{name}", limit, window)
        pacer = Pacer(limit, spec.min_multiplier, spec.max_multiplier, self._share)
        now_s = self._now()
        pacer.look(now_s, bucket_of(window, now_s), bucket_ends(window, now_s), 0)
        return _Pace(spec, budget, Rules((budget,)), pacer, {})
