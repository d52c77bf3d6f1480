"""What one process asks of budgets in SQL: steps that are carried out together, in one transaction. Pure data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gateway.admission.gauges import Refused
from gateway.admission.rules import Budget, Window


@dataclass(frozen=True, slots=True, eq=False)
class Admit:
    """Begin a lease that reserves `cost` of each budget, and give up lease `old_id`, which reserves of `old`."""

    lease_id: str
    budgets: Sequence[Budget]
    cost: int
    old_id: str | None = None
    old: Sequence[Budget] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Extend:
    """Reserve so much more for a lease."""

    lease_id: str
    budgets: Sequence[Budget]
    more: int


@dataclass(frozen=True, slots=True, eq=False)
class End:
    """End a lease at its cost, which is booked in the buckets of `at_s`.

    Of a `stray` nobody knows whether it was ever granted: it is ended where it was, its cost is booked in any case,
    once, and it can't begin any more.
    """

    lease_id: str
    budgets: Sequence[Budget]
    cost: int
    at_s: float
    stray: bool


Step = Admit | Extend
# A refusal; the ids of soft budgets now exceeded; whether a lease was extended.
Answer = Refused | tuple[str, ...] | bool


@dataclass(slots=True)
class Batch:
    """Steps for one transaction: first all ends, which make room, then the others in their order."""

    ends: list[End] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    _windows: dict[str, Window] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.ends) + len(self.steps)

    def fits(self, step: Step) -> bool:
        """Whether a step sees each budget with the window that earlier ones see; one batch looks at it only once.

        (What a lease gives up in another's favour is given back whatever the window.)
        """
        return all(self._windows.setdefault(one.id, one.window) == one.window for one in step.budgets)

    def budget_ids(self) -> list[str]:
        """All that it touches, in order."""
        found = {budget.id for end in self.ends for budget in end.budgets}
        return sorted(found.union(budget.id for step in self.steps for budget in touched(step)))

    def halves(self) -> tuple[Batch, Batch]:
        """Two smaller ones, to be carried out one after the other."""
        ends, steps = self.ends, self.steps
        if len(ends) > 1 or (ends and not steps):
            middle = (len(ends) + 1) // 2
            return Batch(ends[:middle]), Batch(ends[middle:], steps)
        if ends:
            return Batch(ends), Batch([], steps)
        middle = len(steps) // 2
        return Batch([], steps[:middle]), Batch([], steps[middle:])


def touched(step: Step) -> Iterable[Budget]:
    """All budgets whose reservations it changes."""
    return (*step.budgets, *step.old) if isinstance(step, Admit) and step.old else step.budgets
