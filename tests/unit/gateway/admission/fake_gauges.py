"""A store of gauges that says what a test tells it to say, and remembers what it was asked; and rules to ask about."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.admission.base import Need
from gateway.admission.gauges import Demand, Expired, GaugesUnavailable, Granted, Level, Refused, Settlement
from gateway.admission.rules import NO_RULES, Budget, Caller, RateLimit, Rules, Scope
from policies.catalogue import ModelCard


def away(asked: bool = True) -> GaugesUnavailable:
    """The error of a store that does not answer, or is not even asked."""
    error = GaugesUnavailable("no answer")
    error.asked = asked
    return error


class FakeGauges:
    """Each admission and extension gets the next of its script; the last answer repeats."""

    def __init__(
        self, *script: Granted | Refused | GaugesUnavailable, extends: bool | GaugesUnavailable = True
    ) -> None:
        self.script = list(script) or [Granted()]
        self.extends = extends
        self.expired: list[Expired] = []
        self.fault: Exception | None = None
        self.admitted: list[tuple[str, Demand, str | None]] = []
        self.extended: list[tuple[str, int]] = []
        self.settled: list[Settlement] = []
        self.renewed: list[list[str]] = []
        self.steps: list[str] = []
        self.stepped = asyncio.Event()

    async def admit(self, lease_id: str, demand: Demand, replacing: str | None = None) -> Granted | Refused:
        self.admitted.append((lease_id, demand, replacing))
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, GaugesUnavailable):
            raise step
        return step

    async def extend(self, lease_id: str, demand: Demand, more_nanousd: int) -> bool:
        self.extended.append((lease_id, more_nanousd))
        if isinstance(self.extends, GaugesUnavailable):
            raise self.extends
        return self.extends

    def settle(self, settlement: Settlement) -> None:
        self.settled.append(settlement)

    async def renew(self, lease_ids: Sequence[str]) -> None:
        self.renewed.append(list(lease_ids))

    async def reap(self) -> Sequence[Expired]:
        self.steps.append("reap")
        if len(self.steps) > 3:
            self.stepped.set()
        if self.fault is not None:
            raise self.fault
        return self.expired

    async def levels(self, budgets: Sequence[Budget]) -> Sequence[Level]:
        return [Level(one, one.limit_nanousd + 7, 3, None) for one in budgets]

    async def start(self) -> None:
        self.steps.append("start")
        if self.fault is not None:
            raise self.fault

    async def drain(self, timeout_s: float) -> None:
        self.steps.append("drain")

    @property
    def costs(self) -> list[int]:
        """Of all settlements."""
        return [one.cost_nanousd for one in self.settled]


class FakeRulebook:
    """Rules by model."""

    def __init__(self, **rules: Rules) -> None:
        self.rules = rules

    def rules_of(self, model_id: str, tags: Sequence[str]) -> Rules:
        return self.rules.get(model_id, NO_RULES)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def card(model_id: str = "m", priced: bool = True) -> ModelCard:
    price = 1.0 if priced else None
    return ModelCard(id=model_id, context_tokens=8192, price_in_usd_per_mtok=price, price_out_usd_per_mtok=price)


def need(model_id: str = "m", cost: int = 1000, tokens: int = 100, priced: bool = True) -> Need:
    return Need(f"{model_id}-1", card(model_id, priced), cost, tokens, tokens // 2)


def budget(scope: Scope = Scope.KEY, hard: bool = True, limit: int = 50_000, name: str = "b") -> Budget:
    return Budget(name, scope, f"the-{scope.value}", limit, hard=hard)


def limit(scope: Scope = Scope.KEY, name: str = "l") -> RateLimit:
    return RateLimit(name, scope, f"the-{scope.value}", 60, 6000, 5)


def caller(*rules: Budget | RateLimit) -> Caller:
    budgets = tuple(one for one in rules if isinstance(one, Budget))
    limits = tuple(one for one in rules if isinstance(one, RateLimit))
    return Caller("k", "application", None, None, rules=Rules(budgets, limits))
