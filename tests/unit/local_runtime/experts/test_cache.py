"""Which experts are in memory, to the byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from local_runtime.experts.cache import ExpertCache
from local_runtime.experts.layout import Key, Layout
from local_runtime.experts.policies import Belady, Chosen, Lfu, Lru, NextUse, Policy

SIZES = (70, 30)
LAYOUT = Layout(layers=(0, 3), experts=4, planes=SIZES)
KEYS = st.tuples(st.sampled_from(LAYOUT.layers), st.integers(0, 3))


class Accounts(RuleBasedStateMachine):
    """The cache beside a ledger of planes."""

    @initialize(budget=st.integers(100, 800), policy=st.sampled_from([Lru, Lfu, NextUse]))
    def begin(self, budget: int, policy: Any) -> None:
        self.cache = ExpertCache(LAYOUT, SIZES, budget, policy(2, 4))
        self.ready: dict[Key, int] = {}
        self.coming: dict[Key, int] = {}
        self.pins: dict[Key, int] = {}

    @rule(layer=st.sampled_from(LAYOUT.layers), used=st.sets(st.integers(0, 3), min_size=1))
    def visit(self, layer: int, used: set[int]) -> None:
        self.cache.visited(layer, np.array(sorted(used)))

    @rule(layer=st.sampled_from(LAYOUT.layers), odds=st.lists(st.floats(0, 1), min_size=4, max_size=4))
    def expect(self, layer: int, odds: list[float]) -> None:
        self.cache.expect(layer, np.array(odds))

    @rule(key=KEYS, at_any_cost=st.booleans())
    def reserve(self, key: Key, at_any_cost: bool) -> None:
        if self.ready.get(key, 0) + self.coming.get(key, 0) == 2:
            return
        free = sum(self.bytes_of(k) for k, n in self.ready.items() if n and k != key and self.may_go(k))
        gone = self.cache.reserve(key, at_any_cost=at_any_cost)
        if gone is None:
            size = SIZES[self.ready.get(key, 0) + self.coming.get(key, 0)]
            assert not at_any_cost or self.used() - free + size > self.cache.budget
            return
        for old, plane in gone:
            assert old != key and self.may_go(old) and plane < self.ready[old]
        for old in {old for old, _ in gone}:
            self.ready[old] = 0
        self.coming[key] = self.coming.get(key, 0) + 1

    @precondition(lambda self: any(self.coming.values()))
    @rule(data=st.data(), fails=st.booleans())
    def comes(self, data: st.DataObject, fails: bool) -> None:
        key = data.draw(st.sampled_from(sorted(key for key, n in self.coming.items() if n)))
        self.coming[key] -= 1
        if fails:
            self.cache.failed(key)
        else:
            self.cache.arrived(key)
            self.ready[key] = self.ready.get(key, 0) + 1

    @rule(key=KEYS)
    def pin(self, key: Key) -> None:
        self.cache.pin(key)
        self.pins[key] = self.pins.get(key, 0) + 1

    @precondition(lambda self: any(self.pins.values()))
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(key for key, n in self.pins.items() if n)))
        self.cache.unpin(key)
        self.pins[key] -= 1

    @rule(key=KEYS)
    def forget(self, key: Key) -> None:
        if not self.coming.get(key):
            assert self.cache.forget(key) == self.ready.get(key, 0)
            self.ready[key] = 0

    @invariant()
    def the_books_agree(self) -> None:
        if hasattr(self, "cache"):
            assert self.cache.used == self.used() <= self.cache.budget
            for key, count in self.ready.items():
                assert self.cache.ready(key) == count
                assert self.cache.coming(key) == count + self.coming.get(key, 0)

    def bytes_of(self, key: Key) -> int:
        return sum(SIZES[: self.ready.get(key, 0) + self.coming.get(key, 0)])

    def used(self) -> int:
        return sum(self.bytes_of(key) for key in {*self.ready, *self.coming})

    def may_go(self, key: Key) -> bool:
        return not self.pins.get(key) and not self.coming.get(key)


TestAccounts = Accounts.TestCase
TestAccounts.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def full(policy: Policy, keys: list[Key]) -> ExpertCache:
    """A cache that holds these experts and no more."""
    cache = ExpertCache(LAYOUT, SIZES, 100 * len(keys), policy)
    for key in keys:
        for _ in SIZES:
            assert cache.reserve(key, at_any_cost=True) == []
            cache.arrived(key)
    return cache


def used(*experts: int) -> Chosen:
    return np.array(experts)


@pytest.mark.parametrize(
    ("policy", "visits", "goes"),
    [
        (Lru, [used(0), used(1), used(2), used(0)], 1),
        (Lfu, [used(0, 1), used(0, 1), used(2), used(2), used(2)], 0),
        (NextUse, [used(0, 1), used(2, 1), used(1, 2), used(2, 1)] * 5, 2),  # 0 comes every fourth time: now
    ],
)
def test_policies_choose_what_goes(policy: Any, visits: list[Chosen], goes: int) -> None:
    cache = full(policy(2, 4), [(0, 0), (0, 1), (0, 2)])
    for chosen in visits:
        cache.visited(0, chosen)

    gone = cache.reserve((0, 3), at_any_cost=True)

    assert gone == [((0, goes), 0), ((0, goes), 1)]


def test_next_use_lets_the_layer_go_that_comes_last() -> None:
    cache = full(NextUse(2, 4), [(0, 0), (3, 0)])
    for _ in range(30):
        cache.visited(0, used(0))
        cache.visited(3, used(0))
    cache.visited(0, used(0))

    # Layer 3 comes next: what layer 0 has just used is needed again later.
    assert cache.reserve((3, 1), at_any_cost=True) == [((0, 0), 0), ((0, 0), 1)]


def test_what_is_expected_stays_and_newcomers_that_are_less_so_wait() -> None:
    cache = full(Lru(2, 4), [(0, 0), (0, 1)])
    cache.visited(0, used(0, 1))
    cache.expect(3, np.array([0.0, 0.6, 0.0, 0.0]))
    cache.expect(0, np.array([0.9, 0.7, 0.0, 0.0]))

    assert cache.reserve((3, 1), at_any_cost=False) is None
    cache.expect(0, np.array([0.9, 0.5, 0.0, 0.0]))
    assert cache.reserve((3, 1), at_any_cost=False) == [((0, 1), 0), ((0, 1), 1)]


def test_belady_knows_what_comes() -> None:
    policy = Belady([[[0, 4], [1, 3], [2], []], [[], [], [], []]])
    cache = full(policy, [(0, 0), (0, 1), (0, 2)])
    for chosen in (used(0), used(1), used(2)):
        cache.visited(0, chosen)

    assert cache.reserve((0, 3), at_any_cost=True) == [((0, 2), 0), ((0, 2), 1)]
