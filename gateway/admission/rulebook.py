"""Budgets and limits of models and tags, in memory: asked at every request, read again when an admin changes one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from gateway.admission.rule_store import Subject
from gateway.admission.rules import NO_RULES, Rules, Scope
from gateway.ledger.acts import EVERYTHING, Change

MAX_SUMS: Final = 4096
_CONCERN: Final = frozenset({Scope.MODEL, Scope.TAG, EVERYTHING})


class RuleSource(Protocol):
    """What a rulebook asks."""

    async def of_scopes(self, *scopes: Scope) -> Mapping[Subject, Rules]:
        """The rules of every subject in these scopes; raises `OSError` when it cannot be said."""


class Rulebook:
    """One snapshot of all rules; the same arguments give the same object as long as those rules do not change.

    Until `loaded` nobody knows the rules: `rules_of` then answers as if there were none.
    """

    def __init__(self, source: RuleSource) -> None:
        self._source = source
        self._rules: dict[Subject, Rules] = {}
        self._sums: dict[tuple[str, ...], Rules] = {}
        self.loaded = False

    def rules_of(self, model_id: str, tags: Sequence[str]) -> Rules:
        """The rules of a model and of tags together. Tags without rules cost a look-up and are not kept."""
        rules = self._rules
        if not rules:
            return NO_RULES
        of_model = rules.get((Scope.MODEL, model_id), NO_RULES)
        bound = {tag for tag in tags if (Scope.TAG, tag) in rules} if tags else None
        if not bound:
            return of_model
        name = (model_id if of_model is not NO_RULES else "", *sorted(bound))
        found = self._sums.get(name)
        if found is None:
            found = sum((rules[Scope.TAG, tag] for tag in name[1:]), of_model)
            if len(self._sums) >= MAX_SUMS:
                self._sums.clear()
            self._sums[name] = found
        return found

    async def take_up(self, changes: Iterable[Change]) -> None:
        """Read the rules again where changes concern them; raises `OSError`."""
        if any(one.what in _CONCERN for one in changes):
            await self.refresh()

    async def refresh(self) -> None:
        """Read all rules; what did not change stays the same object. Raises `OSError`, and then all stays as it was."""
        found = await self._source.of_scopes(Scope.MODEL, Scope.TAG)
        old, self.loaded = self._rules, True
        if found != old:
            kept = {subject: old[subject] if old.get(subject) == rules else rules for subject, rules in found.items()}
            self._rules, self._sums = kept, {}
