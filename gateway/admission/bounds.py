"""What bounds a call: the rules of its caller and those of model and tags as one object, the same one each time.

Stores keep what they prepare for a `Rules` object by its identity; that is why the sums are kept here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.admission.rules import NO_RULES, Budget, Caller, RateLimit, Rules

MAX_KEPT: Final = 8192


class ModelRules(Protocol):
    """What admins have set for models and tags; in memory."""

    def rules_of(self, model_id: str, tags: Sequence[str]) -> Rules:
        """The rules of a model and of tags together. Cheap; the same object as long as nothing has changed."""


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """All rules of one call. `hard`: whether a hard budget is among them; `limits_only` and `budgets_only` are its
    two halves.

    `sources` keeps both summands alive, since they are looked up by identity.
    """

    rules: Rules = NO_RULES
    hard: bool = False
    limits_only: Rules = NO_RULES
    budgets_only: Rules = NO_RULES
    sources: tuple[Rules, Rules] = (NO_RULES, NO_RULES)

    def budget(self, budget_id: str) -> Budget | None:
        """The budget of that id."""
        return next((one for one in self.rules.budgets if one.id == budget_id), None)

    def limit(self, limit_id: str) -> RateLimit | None:
        """The rate limit of that id."""
        return next((one for one in self.rules.limits if one.id == limit_id), None)


UNBOUNDED: Final = Bounds()


class BoundsBook:
    """Bounds by caller, model and tags; the oldest of `most` sums are forgotten."""

    def __init__(self, rulebook: ModelRules, most: int = MAX_KEPT) -> None:
        self._rules_of = rulebook.rules_of
        self._most = most
        self._kept: dict[tuple[int, int], Bounds] = {}

    def of(self, caller: Caller, model_id: str, tags: Sequence[str]) -> Bounds:
        """What bounds a call; `UNBOUNDED` itself where nothing does."""
        own, other = caller.rules, self._rules_of(model_id, tags)
        if not (own.limits or own.budgets or other.limits or other.budgets):
            return UNBOUNDED
        return self._kept.get((id(own), id(other))) or self._add(own, other)

    def _add(self, own: Rules, other: Rules) -> Bounds:
        rules = own + other
        bounds = Bounds(
            rules,
            any(budget.hard for budget in rules.budgets),
            Rules((), rules.limits) if rules.budgets else rules,
            Rules(rules.budgets, ()) if rules.limits else rules,
            (own, other),
        )
        if len(self._kept) >= self._most:
            del self._kept[next(iter(self._kept))]
        self._kept[id(own), id(other)] = bounds
        return bounds
