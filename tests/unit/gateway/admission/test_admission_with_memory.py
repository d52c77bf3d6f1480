"""Admission over the real counters of one process, which fail now and then before or after a step was taken."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from gateway.admission.admission import GaugedAdmission
from gateway.admission.base import Lease
from gateway.admission.gauges import Demand, GaugesUnavailable, Granted, Level, Refused
from gateway.admission.memory_gauges import MemoryGauges
from gateway.admission.rules import Rules, Scope
from gateway.errors import BudgetExceeded, Overloaded
from tests.unit.gateway.admission.fake_gauges import FakeRulebook, budget, caller, need

Value = TypeVar("Value")
LIMIT = 10_000
KEY, MODEL = budget(limit=LIMIT), budget(Scope.MODEL, limit=LIMIT // 2, name="of-b")
COSTS = st.integers(0, 3000)


def at_once(step: Coroutine[Any, Any, Value]) -> Value:
    """The result of a coroutine that never waits."""
    try:
        step.send(None)
    except StopIteration as end:
        result: Value = end.value
        return result
    raise AssertionError("it waits")


class Flaky(MemoryGauges):
    """`fails` is what happens to the next step: nothing, an error before it, or one after it."""

    fails = "never"

    async def admit(self, lease_id: str, demand: Demand, replacing: str | None = None) -> Granted | Refused:
        self._fail("before")
        outcome = await super().admit(lease_id, demand, replacing)
        self._fail("after")
        return outcome

    async def extend(self, lease_id: str, demand: Demand, more_nanousd: int) -> bool:
        self._fail("before")
        granted = await super().extend(lease_id, demand, more_nanousd)
        self._fail("after")
        return granted

    def _fail(self, when: str) -> None:
        if self.fails == when:
            self.fails = "never"
            raise GaugesUnavailable("as told")


class Calls(RuleBasedStateMachine):
    """Calls of one key over two models; model "b" has a budget of its own."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.gauges = Flaky()
        self.parts = GaugedAdmission(
            gauges=self.gauges,
            spare=MemoryGauges(),
            rulebook=FakeRulebook(b=Rules((MODEL,))),
            on_expired=lambda _: None,
        )
        self.spent = 0
        self.running: list[Lease] = []

    @rule(target=leases, model=st.sampled_from("ab"), cost=COSTS)
    def begin(self, model: str, cost: int) -> Lease | None:
        free = self.free(model)
        try:
            lease = at_once(self.parts.admit(caller(KEY), (), [need(model, cost)], fail_open=False))
        except BudgetExceeded:
            assert free < cost
            return None
        except Overloaded:
            return None
        assert free >= cost
        self.running.append(lease)
        return lease

    @rule(lease=leases, cost=COSTS)
    def extend(self, lease: Lease | None, cost: int) -> None:
        if lease is not None and at_once(lease.extend(cost)):
            assert lease.reserved_nanousd >= cost or lease not in self.running

    @rule(lease=leases, model=st.sampled_from("ab"), cost=COSTS)
    def move(self, lease: Lease | None, model: str, cost: int) -> None:
        if lease is not None and at_once(lease.move(need(model, cost))):
            assert lease.reserved_nanousd == cost

    @rule(lease=consumes(leases), share=st.floats(0, 1))
    def end(self, lease: Lease | None, share: float) -> None:
        if lease is not None:
            cost = int(lease.reserved_nanousd * share)
            lease.settle(cost, 1)
            lease.settle(cost, 1)
            self.running.remove(lease)
            self.spent += cost

    @rule(when=st.sampled_from(["before", "after"]))
    def fail_next(self, when: str) -> None:
        self.gauges.fails = when

    @invariant()
    def never_overspent(self) -> None:
        for level in self.levels():
            assert level.spent_nanousd + level.reserved_nanousd <= level.budget.limit_nanousd

    @invariant()
    def what_the_store_knows_is_what_leases_hold(self) -> None:
        whole, _ = self.levels()
        assert whole.spent_nanousd == self.spent
        assert whole.reserved_nanousd >= sum(lease.reserved_nanousd for lease in self.running)

    def teardown(self) -> None:
        for lease in self.running:
            lease.settle(0, 0)
        assert all(level.reserved_nanousd == 0 for level in self.levels())
        assert self.parts.stats()["leases_held"] == 0

    def levels(self) -> Sequence[Level]:
        return at_once(self.gauges.levels([KEY, MODEL]))

    def free(self, model: str) -> int:
        bound = self.levels()[: 2 if model == "b" else 1]
        return min(one.budget.limit_nanousd - one.spent_nanousd - one.reserved_nanousd for one in bound)


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
