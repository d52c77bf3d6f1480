"""Budgets in this process's memory: what each has spent, by bucket of time, and what leases have reserved of it.

Knows no lease and no limit. Nothing here waits, so every step is one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import inf

from gateway.admission.gauges import Kind, Level, Refused
from gateway.admission.memory_limits import LOOKED_AT
from gateway.admission.rules import Budget, Window
from gateway.admission.windows import bucket_ends, bucket_of, first_bucket, resets_at


@dataclass(slots=True, eq=False)
class _Purse:
    """One budget: `spent` is the sum of what counts in the window, until the running bucket ends."""

    window: Window
    bucket: int
    until: float
    spent: int = 0
    reserved: int = 0
    buckets: dict[int, int] = field(default_factory=dict)

    def look(self, window: Window, now_s: float) -> None:
        """Bring the window up to date; what is older than it is forgotten."""
        self.window, self.bucket, self.until = window, bucket_of(window, now_s), bucket_ends(window, now_s)
        first = first_bucket(window, now_s)
        self.buckets = {bucket: spent for bucket, spent in self.buckets.items() if bucket >= first}
        self.spent = sum(self.buckets.values())


def refusal(budget: Budget, free_nanousd: int, now_s: float) -> Refused:
    """A budget stands in the way, with what it still covers and when its window ends."""
    end = resets_at(budget.window, now_s)
    return Refused(Kind.BUDGET, budget.id, max(free_nanousd, 0), end - now_s if end is not None else None)


class MemoryBudgets:
    """All budgets of one process; memory is bounded by the budgets that have something spent or reserved."""

    def __init__(self) -> None:
        self._purses: dict[str, _Purse] = {}
        self._added = 0

    def __len__(self) -> int:
        """How many budgets are kept."""
        return len(self._purses)

    def load(self, budget: Budget, spent: int, reserved: int) -> None:
        """Take over how a budget stands elsewhere, for the moment and for its present window."""
        self._purses[budget.id] = _Purse(budget.window, 0, inf, spent, reserved)

    def reserve(
        self, budgets: Sequence[Budget], cost: int, now_s: float, old: Sequence[Budget] = (), old_cost: int = 0
    ) -> tuple[str, ...] | Refused:
        """Reserve the cost of each budget, and give up `old_cost` of each `old` one; or change nothing.

        Returns the ids of soft budgets that are then exceeded. Of several hard budgets that refuse, the one with the
        least left is named. What costs nothing is neither refused nor warned of.
        """
        if self._added:
            self._forget_idle(now_s)
        purses = []
        warned: tuple[str, ...] = ()
        short: tuple[int, Budget] | None = None
        for budget in budgets:
            purse = self._purses.get(budget.id)
            if purse is None or purse.window is not budget.window or not purse.bucket <= now_s < purse.until:
                purse = self._purse(budget, now_s)
            free = budget.limit_nanousd - purse.spent - purse.reserved
            if old_cost and any(one.id == budget.id for one in old):
                free += old_cost
            if cost > free and cost:
                if not budget.hard:
                    warned = (*warned, budget.id)
                elif short is None or free < short[0]:
                    short = (free, budget)
            purses.append(purse)
        if short is not None:
            return refusal(short[1], short[0], now_s)
        for purse in purses:
            purse.reserved += cost
        if old_cost:
            self.release(old, old_cost)
        return warned

    def release(self, budgets: Sequence[Budget], cost: int) -> None:
        """Give up what was reserved."""
        for budget in budgets:
            purse = self._purses.get(budget.id)
            if purse is not None:
                purse.reserved -= cost

    def book(self, budgets: Sequence[Budget], cost: int, reserved: int, at_s: float, now_s: float) -> None:
        """Spend the cost, in the buckets of the moment `at_s`, and give up what was reserved for it."""
        for budget in budgets:
            purse = self._purses.get(budget.id) or self._purse(budget, now_s)
            purse.reserved -= reserved
            if purse.window is budget.window and purse.bucket <= at_s and at_s == now_s < purse.until:
                purse.spent += cost
                purse.buckets[purse.bucket] = purse.buckets.get(purse.bucket, 0) + cost
            else:
                bucket = bucket_of(budget.window, at_s)
                purse.buckets[bucket] = purse.buckets.get(bucket, 0) + cost
                purse.look(purse.window, now_s)

    def level(self, budget: Budget, now_s: float) -> Level:
        """How one budget stands; asking for one that nobody has used leaves no trace."""
        purse = self._purses.get(budget.id)
        if purse is not None:
            purse.look(budget.window, now_s)
        spent, reserved = (purse.spent, purse.reserved) if purse is not None else (0, 0)
        return Level(budget, spent, reserved, resets_at(budget.window, now_s))

    def _purse(self, budget: Budget, now_s: float) -> _Purse:
        """The budget's purse, up to date."""
        purse = self._purses.get(budget.id)
        if purse is None:
            self._added += 1
            purse = self._purses[budget.id] = _Purse(budget.window, 0, 0.0)
        elif purse.window == budget.window and purse.bucket <= now_s < purse.until:
            purse.window = budget.window
            return purse
        purse.look(budget.window, now_s)
        return purse

    def _forget_idle(self, now_s: float) -> None:
        """Look at a few of the oldest purses for each that was added; one that says nothing is forgotten."""
        looked_at, self._added = LOOKED_AT * self._added, 0
        for budget_id in list(islice(self._purses, looked_at)):
            purse = self._purses.pop(budget_id)
            if not purse.bucket <= now_s < purse.until:
                purse.look(purse.window, now_s)
            if purse.reserved or purse.spent:
                self._purses[budget_id] = purse
