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

LAYOUT = Layout(layers=(0, 3), experts=4, planes=(70,))
KEYS = st.tuples(st.sampled_from(LAYOUT.layers), st.integers(0, 3))


class Accounts(RuleBasedStateMachine):
    """The cache beside a ledger."""

    @initialize(room=st.integers(1, 8), policy=st.sampled_from([Lru, Lfu, NextUse]))
    def begin(self, room: int, policy: Any) -> None:
        self.cache = ExpertCache(LAYOUT, room, policy(2, 4))
        self.ready: set[Key] = set()
        self.coming: set[Key] = set()
        self.pins: dict[Key, int] = {}

    @rule(layer=st.sampled_from(LAYOUT.layers), used=st.sets(st.integers(0, 3), min_size=1))
    def visit(self, layer: int, used: set[int]) -> None:
        self.cache.visited(layer, np.array(sorted(used)))

    @rule(layer=st.sampled_from(LAYOUT.layers), odds=st.lists(st.floats(0, 1), min_size=4, max_size=4))
    def expect(self, layer: int, odds: list[float]) -> None:
        self.cache.expect(layer, np.array(odds))

    @rule(key=KEYS, at_any_cost=st.booleans())
    def reserve(self, key: Key, at_any_cost: bool) -> None:
        if key in self.ready | self.coming:
            return
        may_go = {one for one in self.ready if not self.pins.get(one)}
        full = len(self.ready) + len(self.coming) >= self.cache.room
        gone = self.cache.reserve(key, at_any_cost=at_any_cost)
        if gone is None:
            assert full and not (at_any_cost and may_go)
            return
        assert len(gone) == full and may_go.issuperset(gone)
        self.ready.difference_update(gone)
        self.coming.add(key)

    @precondition(lambda self: self.coming)
    @rule(data=st.data(), fails=st.booleans())
    def comes(self, data: st.DataObject, fails: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.coming)))
        self.coming.discard(key)
        if fails:
            self.cache.failed(key)
        else:
            self.cache.arrived(key)
            self.ready.add(key)

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

    @invariant()
    def the_books_agree(self) -> None:
        if hasattr(self, "cache"):
            assert self.cache.used == len(self.ready) + len(self.coming) <= self.cache.room
            for layer in LAYOUT.layers:
                for expert in range(4):
                    key = layer, expert
                    assert self.cache.ready(key) == (key in self.ready)
                    assert self.cache.coming(key) == (key in self.coming)


TestAccounts = Accounts.TestCase
TestAccounts.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def full(policy: Policy, keys: list[Key]) -> ExpertCache:
    """A cache that holds these experts and no more."""
    cache = ExpertCache(LAYOUT, len(keys), policy)
    for key in keys:
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

    assert gone == [(0, goes)]


def test_next_use_lets_the_layer_go_that_comes_last() -> None:
    cache = full(NextUse(2, 4), [(0, 0), (3, 0)])
    for _ in range(30):
        cache.visited(0, used(0))
        cache.visited(3, used(0))
    cache.visited(0, used(0))

    # Layer 3 comes next: what layer 0 has just used is needed again later.
    assert cache.reserve((3, 1), at_any_cost=True) == [(0, 0)]


def test_what_is_expected_stays_and_newcomers_that_are_less_so_wait() -> None:
    cache = full(Lru(2, 4), [(0, 0), (0, 1)])
    cache.visited(0, used(0, 1))
    cache.expect(3, np.array([0.0, 0.6, 0.0, 0.0]))
    cache.expect(0, np.array([0.9, 0.7, 0.0, 0.0]))

    assert cache.reserve((3, 1), at_any_cost=False) is None
    cache.expect(0, np.array([0.9, 0.5, 0.0, 0.0]))
    assert cache.reserve((3, 1), at_any_cost=False) == [(0, 1)]


def test_belady_knows_what_comes() -> None:
    policy = Belady([[[0, 4], [1, 3], [2], []], [[], [], [], []]])
    cache = full(policy, [(0, 0), (0, 1), (0, 2)])
    for chosen in (used(0), used(1), used(2)):
        cache.visited(0, chosen)

    assert cache.reserve((0, 3), at_any_cost=True) == [(0, 2)]
