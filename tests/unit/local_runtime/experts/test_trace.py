"""Routes of a text, and plans made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runtime.experts.layout import Layout
from local_runtime.experts.plan import measured_bandwidth, plan
from local_runtime.experts.policies import Lfu, Lru, NextUse
from local_runtime.experts.store import ExpertStore
from local_runtime.experts.trace import Recorder, Routes, hit_rate, segment_hit_rate, segment_performance


def local_routes(tokens: int = 300, layers: int = 3, experts: int = 16, active: int = 4, seed: int = 0) -> Routes:
    """Each expert stays with odds of .6; newcomers are drawn unevenly, as published routes are."""
    random = np.random.default_rng(seed)
    popularity = 1 / np.arange(1, experts + 1) ** 0.8
    routes = np.empty((tokens, layers, active), dtype=np.int32)
    for layer in range(layers):
        order, now = random.permutation(experts), random.choice(experts, active, replace=False)
        odds = popularity[order] / popularity.sum()
        for token in range(tokens):
            kept = now[random.random(active) < 0.6]
            others = np.setdiff1d(np.arange(experts), kept)
            weights = odds[others] / odds[others].sum()
            now = np.concatenate([kept, random.choice(others, active - len(kept), replace=False, p=weights)])
            routes[token, layer] = now
    return routes


def test_routes_that_never_change_are_as_local_as_can_be() -> None:
    routes = np.tile(np.array([[1, 5], [0, 2]], dtype=np.int32), (40, 1, 1))

    assert segment_performance(routes, 8, 10) == pytest.approx(1)
    assert segment_hit_rate(routes, 8, 10, 2) == pytest.approx(1)
    assert segment_hit_rate(routes, 8, 10, 1) == pytest.approx(0.5)
    assert hit_rate(routes, 8, 4, Lru) == pytest.approx(39 / 40)


def test_figures_of_a_segment_are_those_computed_by_hand() -> None:
    # Expert 0 always, 1 and 2 by turns: {0} scores 2 x 1 / (1 + 2), {0, 1} 2 x 1.5 / 4, {0, 1, 2} 2 x 2 / 5.
    routes = np.array([[[0, 1]], [[0, 2]]] * 2, dtype=np.int32)

    assert segment_performance(routes, 4, 4) == pytest.approx(0.8)
    assert segment_performance(routes, 4, 1) == pytest.approx(1)
    assert segment_hit_rate(routes, 4, 4, 2) == pytest.approx(0.75)


def test_the_runtimes_own_rule_beats_the_usual_ones_on_routes_like_published_ones() -> None:
    routes = local_routes()

    rates = {policy.__name__: hit_rate(routes, 16, 24, policy) for policy in (Lru, Lfu, NextUse)}
    bound = hit_rate(routes, 16, 24)

    assert rates["Lru"] < rates["NextUse"] and rates["Lfu"] < rates["NextUse"] < bound


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), room=st.integers(4, 40), policy=st.sampled_from([Lru, Lfu, NextUse]))
def test_nothing_beats_knowing_what_comes(seed: int, room: int, policy: type[Lru]) -> None:
    routes = local_routes(tokens=60, seed=seed)

    assert hit_rate(routes, 16, room, policy) <= hit_rate(routes, 16, room) + 1e-9


def test_routes_are_recorded_in_the_order_of_tokens() -> None:
    recorder = Recorder([2, 5])
    for rows in (np.array([[1, 2], [3, 4]]), np.array([[5, 6]])):
        for layer in (2, 5):
            recorder.saw(layer, (rows + 10 * (layer == 5)).astype(np.int32))

    routes = recorder.routes()

    assert routes[:, 0].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert routes[:, 1].tolist() == [[11, 12], [13, 14], [15, 16]]


LAYOUT = Layout(tuple(range(10)), 8, (1 << 20,))


@pytest.mark.parametrize(
    ("foreseen", "computing_s", "seconds", "bound"),
    [(0.0, 0.05, 0.15, "disk"), (1.0, 0.05, 0.10, "disk"), (1.0, 0.2, 0.2, "processor"), (0.5, 0.2, 0.25, "processor")],
)
def test_a_plan_adds_what_can_not_go_on_at_once(
    foreseen: float, computing_s: float, seconds: float, bound: str
) -> None:
    # Half of 20 experts of 1 MiB at 100 MiB a second: a tenth of a second of reading.
    told = plan(LAYOUT, 30 << 20, 2, 0.5, 100 * 2**20, computing_s, foreseen)

    assert (told.room, told.bound) == (30, bound)
    assert told.read_bytes == 10 << 20
    assert told.seconds == pytest.approx(seconds)


def test_no_more_experts_fit_than_there_are() -> None:
    assert plan(LAYOUT, 1 << 40, 2, 1.0, 1e9, 0.1, 0.0).room == 80


def test_a_disk_has_a_speed(folder: Path) -> None:
    assert measured_bandwidth(ExpertStore.open(folder)) > 1e5
