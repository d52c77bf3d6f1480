"""Experts as the layers of a model see them."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local_runtime.experts.errors import BudgetTooSmall, ExpertLost
from local_runtime.experts.layout import Layout
from local_runtime.experts.memory import Slots
from local_runtime.experts.pool import ExpertPool
from local_runtime.experts.store import ExpertStore, path_of
from tests.unit.local_runtime.experts.stores import EXPERT, is_there, plane_of, write_store

Opened = Callable[..., ExpertPool]


@pytest.fixture
def opened(folder: Path) -> Iterator[Opened]:
    pools = []

    def make(experts: int = 4, most: int = 2, **options: object) -> ExpertPool:
        pools.append(ExpertPool(ExpertStore.open(folder), experts * EXPERT, most, **options))  # type: ignore[arg-type]
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def compute(pool: ExpertPool, layer: int, wanted: Mapping[int, int]) -> list[int]:
    """Pass through a layer; every expert must be whole while it is computed, and those before it until the next."""
    seen: list[int] = []
    try:
        for some in pool.want(layer, wanted):
            assert all(is_there(pool, (layer, expert)) for expert in some)
            seen += some
    finally:
        pool.done(layer)
    return seen


def test_all_that_is_wanted_comes_once_and_whole(opened: Opened) -> None:
    pool = opened()

    assert sorted(compute(pool, 1, {0: 1, 3: 2, 5: 1})) == [0, 3, 5]
    assert compute(pool, 1, {3: 1, 5: 1}) in ([3, 5], [5, 3])
    assert (pool.stats.hits, pool.stats.misses, pool.stats.read_bytes) == (2, 3, 3 * EXPERT)
    assert pool.resident_bytes == 3 * EXPERT


def test_a_layer_may_want_more_than_there_is_room_for(opened: Opened) -> None:
    pool = opened(experts=2)

    assert sorted(compute(pool, 2, dict.fromkeys(range(6), 1))) == list(range(6))
    assert pool.resident_bytes <= 2 * EXPERT


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), experts=st.integers(2, 9), prefetch=st.booleans())
def test_whatever_is_wanted_comes_and_the_budget_holds(
    opened: Opened, data: st.DataObject, experts: int, prefetch: bool
) -> None:
    pool = opened(experts, prefetch=prefetch)
    for _ in range(8):
        for layer in (1, 2, 4):
            wanted = data.draw(st.dictionaries(st.integers(0, 5), st.integers(1, 9), min_size=1))
            used = np.array([sorted(wanted)], dtype=np.int32)
            foreseen = {later: np.full((2, 6), 0.9, np.float32) for later in (2, 4) if later > layer}
            arriving = pool.want(layer, wanted)
            pool.saw(layer, used, foreseen)
            seen: list[int] = []
            for some in arriving:
                assert all(is_there(pool, (layer, expert)) for expert in some)
                assert pool.resident_bytes <= experts * EXPERT
                seen += some
            pool.done(layer)
            assert sorted(seen) == sorted(wanted)


def test_what_routers_foresee_is_there_before_it_is_wanted(opened: Opened) -> None:
    pool = opened(experts=12)
    random = np.random.default_rng(0)
    for _ in range(60):
        routes = {layer: random.choice(6, 2, replace=False).astype(np.int32) for layer in (1, 2, 4)}
        for layer, chosen in routes.items():
            foreseen = {}
            for later in (2, 4):
                if later > layer:
                    foreseen[later] = np.full((1, 6), 0.02, np.float32)
                    foreseen[later][0, routes[later]] = 0.46
            arriving = pool.want(layer, {int(expert): 1 for expert in chosen})
            pool.saw(layer, chosen[None], foreseen)
            assert sorted(expert for some in arriving for expert in some) == sorted(chosen.tolist())
            pool.done(layer)

    stats = pool.stats
    assert stats.ahead_used > 10 and stats.ahead_wasted < stats.ahead_used / 5
    assert stats.misses < 60 * 2 * 3 / 4  # mostly of the first layer, which nobody foresees


def test_a_lost_expert_is_said_and_all_else_goes_on(opened: Opened, folder: Path) -> None:
    pool = opened()
    lost = path_of(folder, (1, 2))
    whole = lost.read_bytes()
    lost.write_bytes(whole[:8192])

    with pytest.raises(ExpertLost, match="expert-0002"):
        compute(pool, 1, {2: 1, 3: 1})
    assert sorted(compute(pool, 1, {0: 1, 3: 1})) == [0, 3]
    assert sorted(compute(pool, 2, {2: 1, 3: 1})) == [2, 3]
    lost.write_bytes(whole)
    assert sorted(compute(pool, 1, {2: 1, 3: 1})) == [2, 3]
    assert pool.resident_bytes <= 4 * EXPERT


def test_only_the_first_planes_are_read_where_they_are_enough(opened: Opened) -> None:
    pool = opened(planes=1)

    assert list(pool.want(1, {4: 1})) == [[4]]

    assert pool.stats.read_bytes == 8192
    assert ctypes.string_at(pool.address(1, 4)[0], 5000) == plane_of((1, 4), 0)


def test_a_budget_below_what_a_token_wants_is_refused(folder: Path) -> None:
    with pytest.raises(BudgetTooSmall, match="hold 2 of 6, of which a token wants 3: at least 1 MiB"):
        ExpertPool(ExpertStore.open(folder), 3 * EXPERT - 1, 3)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system tells no memory use")
def test_experts_take_no_more_than_their_budget(tmp_path: Path) -> None:
    layout = Layout((0,), 40, (1 << 20,))
    pool = ExpertPool(ExpertStore.open(write_store(tmp_path / "big", layout)), 8 << 20, 1)
    before = resident_bytes()

    for expert in range(40):
        assert list(pool.want(0, {expert: 1})) == [[expert]]
        pool.done(0)

    assert resident_bytes() - before < 11 << 20  # large pages round it up
    pool.close()
    assert resident_bytes() - before < 3 << 20


def test_places_never_meet_and_are_used_again() -> None:
    slots = Slots(8192, 3)
    keys = [(0, 0), (0, 1), (5, 0)]
    for i, key in enumerate(keys):
        slots.take(key)[:] = bytes([i]) * 8192

    places = [slots.address(key) for key in keys]

    assert [ctypes.string_at(place, 8192) for place in places] == [bytes([i]) * 8192 for i in range(3)]
    assert all(place % 4096 == 0 for place in places)
    with pytest.raises(IndexError):
        slots.take((9, 9))
    slots.give((0, 1))
    slots.take((9, 9))
    assert slots.address((9, 9)) == places[1]
    slots.close()


def test_places_are_whole_blocks() -> None:
    with pytest.raises(ValueError, match="whole blocks of 4096 bytes, not 5000"):
        Slots(5000, 1)
