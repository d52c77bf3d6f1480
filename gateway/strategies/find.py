"""Finds strategies by the stem of their file, and lays out what a policy does by category."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module

from gateway import strategies as folder
from gateway.dispatch.effort import EffortRule
from gateway.strategies.base import LoadRouter, Strategy
from policies.schema import CategoryRule, Policy, StrategySpec

# What a policy does that says nothing: one call, with the fallbacks of dispatch. It is no file, since nothing is done.
SINGLE = "single"
_CASCADE = "cascade"


@dataclass(frozen=True, slots=True)
class Tactics:
    """What is done for one category; `strategy` None is a single call, `effort` None leaves it to the vendors."""

    spec: StrategySpec
    strategy: Strategy | None
    effort: EffortRule | None


@dataclass(frozen=True, slots=True)
class Plan:
    """A policy's tactics: those of categories that have their own, and the usual ones."""

    usual: Tactics
    special: Mapping[str, Tactics]

    def of(self, category: str) -> Tactics:
        """What is done for queries of a category."""
        return self.special.get(category, self.usual)


def strategies() -> list[str]:
    """Names of all strategies but `single`, in alphabetical order."""
    return sorted(stem for stem, found in _found().items() if found is not None)


def strategy_class(kind: str) -> type[Strategy]:
    """The class whose `kind` is the name of its file; raises `ValueError` naming the known kinds."""
    found = _found().get(kind)
    if found is None:
        known = [SINGLE, *strategies()]
        near = get_close_matches(kind, known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"there is no strategy '{kind}' (known: {', '.join(known)}){hint}")
    return found


def plan_of(policy: Policy, load: LoadRouter) -> Plan | None:
    """What a policy does beside single calls, None for nothing; `load` reads what was trained.

    `ValueError` says which table can't be used.
    """
    usual = _tactics(policy, None, load)
    special = {rule.name: _tactics(policy, rule, load) for rule in policy.category}
    if all(one.strategy is None and one.effort is None for one in (usual, *special.values())):
        return None
    return Plan(usual, special)


def _tactics(policy: Policy, rule: CategoryRule | None, load: LoadRouter) -> Tactics:
    spec = policy.strategy if rule is None or rule.strategy is None else rule.strategy
    level = policy.effort.reasoning_effort if rule is None or rule.reasoning_effort is None else rule.reasoning_effort
    effort = None if level is None else EffortRule(level, policy.effort.low_above, policy.effort.high_below)
    if spec.kind == _CASCADE and spec.artifact is None and policy.router.kind == _CASCADE:
        spec = spec.model_copy(update={"artifact": policy.router.artifact})
    where = f"category '{rule.name}'" if rule is not None and rule.strategy is not None else "strategy"
    try:
        return Tactics(spec, None if spec.kind == SINGLE else strategy_class(spec.kind).from_spec(spec, load), effort)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _found() -> dict[str, type[Strategy] | None]:
    """Each file's stem with the class of that kind in it, None where there is none."""
    found: dict[str, type[Strategy] | None] = {}
    for module in pkgutil.iter_modules(folder.__path__):
        if module.name == __name__.rpartition(".")[2]:
            continue
        file = import_module(f"{folder.__name__}.{module.name}")
        own = (one for one in vars(file).values() if isinstance(one, type) and one.__module__ == file.__name__)
        found[module.name] = next((one for one in own if getattr(one, "kind", None) == module.name), None)
    return found
