"""A model of budgets in a few lines, and a machine that holds any store against it, step by step."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.admission.gauges import Demand, Granted, Kind, Refused, Settlement
from gateway.admission.rules import Budget, Period, Rules, Scope, Window, WindowKind
from gateway.admission.windows import bucket_of, first_bucket
from tests.contract.gauge_stores import LEASE_S, START_S, Store, agreed

LASTING = (Window(), Window(WindowKind.CALENDAR, Period.MONTH), Window(WindowKind.ROLLING, seconds=30 * 86_400))
PASSING = (
    Window(WindowKind.CALENDAR, Period.HOUR),
    Window(WindowKind.CALENDAR, Period.DAY),
    Window(WindowKind.ROLLING, seconds=300),
    Window(WindowKind.ROLLING, seconds=7_200),
)
COSTS = st.integers(0, 60)
CHOICES = st.sets(st.integers(0, 3), min_size=1).map(sorted)
_NUMBERS = itertools.count()


@dataclass(slots=True)
class Lease:
    """A lease as the model sees it."""

    demand: Demand
    reserved: int
    at_s: float


@dataclass(slots=True)
class Model:
    """What must be true: all that was ever spent, by bucket, and what is reserved."""

    budgets: list[Budget]
    spent: dict[str, dict[int, int]] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    expired: dict[str, Lease] = field(default_factory=dict)

    def book(self, lease: Lease, cost: int, at_s: float) -> None:
        for budget in lease.demand.rules.budgets:
            buckets = self.spent.setdefault(budget.id, {})
            bucket = bucket_of(budget.window, at_s)
            buckets[bucket] = buckets.get(bucket, 0) + cost

    def correct(self, lease_id: str, cost: int, now_s: float) -> Demand:
        """A lease that has expired is charged its real cost after all, where its charge still counts."""
        lease = self.expired.pop(lease_id)
        for budget in lease.demand.rules.budgets:
            bucket = bucket_of(budget.window, lease.at_s)
            if bucket >= first_bucket(budget.window, now_s):
                self.spent[budget.id][bucket] += cost - lease.reserved
        return lease.demand

    def spent_of(self, budget: Budget, now_s: float) -> int:
        first = first_bucket(budget.window, now_s)
        return sum(cost for bucket, cost in self.spent.get(budget.id, {}).items() if bucket >= first)

    def reserved_of(self, budget: Budget) -> int:
        return sum(one.reserved for one in self.leases.values() if budget.id in _ids(one.demand))

    def is_held(self, budget: Budget) -> bool:
        return any(budget.id in _ids(one.demand) for one in self.leases.values())

    def free_of(self, budget: Budget, now_s: float) -> int:
        return budget.limit_nanousd - self.spent_of(budget, now_s) - self.reserved_of(budget)


class GaugesMachine(RuleBasedStateMachine):
    """Admits, extends, settles, loses, replaces and reaps leases; subclasses name the store and the loop it runs in."""

    store: Store
    runner: asyncio.Runner

    @initialize(
        limits=st.lists(st.integers(0, 200), min_size=4, max_size=4), windows=st.lists(st.integers(0, 6), min_size=4)
    )
    def begin(self, limits: list[int], windows: list[int]) -> None:
        if self.store.clock is not None:
            self.store.clock.now_s = START_S  # so that the same steps find the same periods
        run = f"run{next(_NUMBERS)}"
        known = LASTING + PASSING if self.store.clock is not None else LASTING
        self.model = Model(
            [
                Budget(f"{run}-{place}", Scope.KEY, "k", limits[place], known[windows[place] % len(known)], place < 3)
                for place in range(4)
            ]
        )
        self.run, self.lost, self.ended = run, set[str](), list[tuple[str, Demand]]()
        self.count = itertools.count()

    @rule(places=CHOICES, cost=COSTS)
    def admit(self, places: list[int], cost: int) -> None:
        self._admit(places, cost, None)

    @precondition(lambda self: self._alive())
    @rule(places=CHOICES, cost=COSTS, choice=st.integers(0))
    def replace(self, places: list[int], cost: int, choice: int) -> None:
        self._admit(places, cost, self._chosen(choice))

    @precondition(lambda self: self._alive())
    @rule(more=st.integers(1, 40), choice=st.integers(0))
    def extend(self, more: int, choice: int) -> None:
        lease_id = self._chosen(choice)
        lease, now = self.model.leases[lease_id], self.store.now()
        fits = all(self.model.free_of(one, now) >= more for one in lease.demand.rules.budgets if one.hard)
        assert self._do(self.store.gauges.extend(lease_id, lease.demand, more)) is fits
        if fits:
            lease.reserved += more
            lease.at_s = now

    @precondition(lambda self: self._alive())
    @rule(part=st.floats(0, 1), choice=st.integers(0))
    def settle(self, part: float, choice: int) -> None:
        lease_id = self._chosen(choice)
        lease = self.model.leases.pop(lease_id)
        cost = round(lease.reserved * part)
        self.store.gauges.settle(Settlement(lease_id, lease.demand, cost, 0))
        self.model.book(lease, cost, self.store.now())
        self.ended.append((lease_id, lease.demand))

    @precondition(lambda self: self.model.expired)
    @rule(part=st.floats(0, 1), choice=st.integers(0))
    def settle_what_has_expired(self, part: float, choice: int) -> None:
        """Its process was not dead, only slow."""
        lease_id = self._of(self.model.expired, choice)
        cost = round(self.model.expired[lease_id].reserved * part)
        demand = self.model.correct(lease_id, cost, self.store.now())
        self.store.gauges.settle(Settlement(lease_id, demand, cost, 0))
        self.ended.append((lease_id, demand))

    @precondition(lambda self: self.model.expired)
    @rule(places=CHOICES, cost=COSTS, choice=st.integers(0))
    def replace_what_has_expired(self, places: list[int], cost: int, choice: int) -> None:
        self._admit(places, cost, self._of(self.model.expired, choice))

    @precondition(lambda self: self.model.expired)
    @rule(choice=st.integers(0))
    def extend_what_has_expired(self, choice: int) -> None:
        lease_id = self._of(self.model.expired, choice)
        assert self._do(self.store.gauges.extend(lease_id, self.model.expired[lease_id].demand, 1)) is False

    @precondition(lambda self: self.ended)
    @rule(choice=st.integers(0), cost=COSTS)
    def settle_again(self, choice: int, cost: int) -> None:
        lease_id, demand = self.ended[choice % len(self.ended)]
        self.store.gauges.settle(Settlement(lease_id, demand, cost, 0))

    @precondition(lambda self: self.ended)
    @rule(choice=st.integers(0))
    def extend_what_has_ended(self, choice: int) -> None:
        lease_id, demand = self.ended[choice % len(self.ended)]
        assert self._do(self.store.gauges.extend(lease_id, demand, 1)) is False

    @precondition(lambda self: self._alive())
    @rule(choice=st.integers(0))
    def crash(self, choice: int) -> None:
        self.lost.add(self._chosen(choice))

    @rule()
    def reap(self) -> None:
        self._do(self.store.expire(self.lost, self._alive()))
        expired = self._do(self.store.gauges.reap())
        assert {one.lease_id: one.cost_nanousd for one in expired} == {
            lease_id: self.model.leases[lease_id].reserved for lease_id in self.lost
        }
        for lease_id in self.lost:
            lease = self.model.leases.pop(lease_id)
            self.model.book(lease, lease.reserved, lease.at_s)
            self.model.expired[lease_id] = lease
        self.lost.clear()

    @precondition(lambda self: self.store.clock is not None)
    @rule(seconds=st.sampled_from([1.0, 20.0, 400.0, 1_800.0, 30_000.0]))
    def pass_time(self, seconds: float) -> None:
        assert self.store.clock is not None
        self.store.clock.now_s += seconds
        if seconds > LEASE_S / 2:
            self._do(self.store.gauges.renew(tuple(self._alive())))

    @rule(place=st.integers(0, 3), more=st.integers(-100, 100))
    def change_limit(self, place: int, more: int) -> None:
        """Lower only where no running call was granted under the old limit, since it may be extended under it."""
        budget, now = self.model.budgets[place], self.store.now()
        used = budget.limit_nanousd - self.model.free_of(budget, now)
        if more > 0 or not self.model.is_held(budget):
            self.model.budgets[place] = replace(budget, limit_nanousd=max(budget.limit_nanousd + more, used, 0))

    @precondition(lambda self: self.store.clock is not None)
    @rule(place=st.integers(0, 3), window=st.sampled_from(LASTING + PASSING))
    def change_window(self, place: int, window: Window) -> None:
        """Not while a running call knows the old one; to a wider one only where a store still knows what counts."""
        old, now = self.model.budgets[place], self.store.now()
        new, first = replace(old, window=window), first_bucket(old.window, now)
        kept = all(bucket >= first for bucket in self.model.spent.get(old.id, {}))
        wider = first_bucket(window, now) < first
        if not self.model.is_held(old) and (not wider or (kept and self.model.free_of(new, now) >= 0)):
            self.model.budgets[place] = new

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "model"):
            return
        now, budgets = self.store.now(), self.model.budgets
        wanted = [(self.model.spent_of(one, now), self.model.reserved_of(one)) for one in budgets]
        self._do(
            agreed(
                self.store.gauges,
                budgets,
                lambda levels: [(one.spent_nanousd, one.reserved_nanousd) for one in levels] == wanted,
            )
        )

    def teardown(self) -> None:
        if hasattr(self, "model"):
            for lease_id in [*self._alive()]:
                self.settle(0.5, self._alive().index(lease_id))
            self.agrees()
            self.reap()
            assert not self.model.leases
            self.agrees()

    def _admit(self, places: list[int], cost: int, old: str | None) -> None:
        budgets, now = tuple(self.model.budgets[place] for place in places), self.store.now()
        lease_id = f"{self.run}-{next(self.count)}"
        demand = Demand(Rules(budgets), cost, 0)
        before = self.model.leases.pop(old, None) if old is not None else None
        free = {one.id: self.model.free_of(one, now) for one in budgets}
        short = {one.id for one in budgets if one.hard and cost > max(free[one.id], 0)}
        answer = self._do(self.store.gauges.admit(lease_id, demand, old))
        if isinstance(answer, Refused):
            assert answer.kind is Kind.BUDGET and answer.rule_id in short
            assert answer.free_nanousd == max(free[answer.rule_id], 0) == max(min(free[one] for one in short), 0)
            if old is not None and before is not None:
                self.model.leases[old] = before
        else:
            assert isinstance(answer, Granted) and not short
            assert set(answer.warned) == {one.id for one in budgets if not one.hard and cost > max(free[one.id], 0)}
            self.model.leases[lease_id] = Lease(demand, cost, now)
            if old is not None:
                self.ended.append((old, before.demand if before else self.model.correct(old, 0, now)))

    def _alive(self) -> Sequence[str]:
        return [lease_id for lease_id in self.model.leases if lease_id not in self.lost]

    def _chosen(self, choice: int) -> str:
        return self._of(self._alive(), choice)

    @staticmethod
    def _of(lease_ids: Iterable[str], choice: int) -> str:
        known = list(lease_ids)
        return known[choice % len(known)]

    def _do(self, step: Any) -> Any:
        return self.runner.run(step)


def _ids(demand: Demand) -> set[str]:
    return {budget.id for budget in demand.rules.budgets}
