"""Whether there is money for what nobody has asked for: checks of cached answers, which the callers themselves pay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.admission.bounds import ModelRules
from gateway.admission.gauges import Gauges
from gateway.admission.rules import Caller
from gateway.pacing import Paces
from policies.schema import Policy

# Of a budget that is spent to this share nothing more is taken.
SPENT: Final = 0.8


class Funds:
    """All budgets of a caller's calls under a policy, but those of single models: these refuse by themselves."""

    def __init__(self, paces: Paces, rulebook: ModelRules, gauges: Gauges) -> None:
        self._paces = paces
        self._rulebook = rulebook
        self._gauges = gauges

    async def are_low(self, policy: Policy, caller: Caller, tags: Sequence[str]) -> bool:
        """Whether a budget, hard or soft, is nearly spent; `GaugesUnavailable` where nobody knows."""
        budgets = self._paces.bound(policy, caller).rules.budgets + self._rulebook.rules_of("", tags).budgets
        levels = await self._gauges.levels(budgets) if budgets else ()
        return any(one.spent_nanousd + one.reserved_nanousd >= SPENT * one.budget.limit_nanousd for one in levels)
