"""Load as endpoints' calls tell it, by a clock moved by hand, and how policies follow it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch.breaker import FAILURES_TO_OPEN
from gateway.dispatch.health import Health, Vitals
from gateway.dispatch.load import BUSY_FROM, BUSY_UNTIL, FALLS_IN_S, HELD_S, Level, index
from gateway.dispatch.strain import RECENT_S, Strain


def calls(strain: Strain, since: float, for_s: float, *, ms: float = 100.0, fails: int = 0, per_s: int = 10) -> float:
    """So many calls a second, `fails` of ten of them fail; when that ends."""
    for number in range(round(for_s * per_s)):
        now = since + number / per_s
        if number % 10 < fails:
            strain.failed(now)
        else:
            strain.succeeded(now, ms)
    return since + for_s


def test_an_endpoint_that_does_what_it_usually_does_is_not_strained() -> None:
    strain = Strain()
    now = calls(strain, 100.0, 60.0)

    assert strain.index(now) == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize(("fails", "at_least", "at_most"), [(0, 0, 0.01), (1, 0.9, 1), (5, 1, 1)])
def test_an_endpoint_that_refuses_a_tenth_of_its_calls_is_strained_wholly(
    fails: int, at_least: float, at_most: float
) -> None:
    strain = Strain()
    now = calls(strain, 100.0, 30.0, fails=fails)

    assert at_least <= strain.index(now) <= at_most


@pytest.mark.parametrize(("slower", "found"), [(1.0, 0.0), (2.5, 0.5), (4.0, 1.0), (9.0, 1.0)])
def test_a_first_byte_that_takes_longer_than_usual_tells_too(slower: float, found: float) -> None:
    strain = Strain()
    now = calls(strain, calls(strain, 100.0, 600.0), 20.0, ms=100.0 * slower)

    assert strain.index(now) == pytest.approx(found, abs=0.12)


def test_one_failure_of_a_few_calls_says_little_and_is_soon_forgotten() -> None:
    strain = Strain()
    strain.succeeded(100.0, 100.0)
    strain.failed(100.0)

    assert 0 < strain.index(100.0) <= BUSY_FROM
    assert strain.index(100.0 + 5 * RECENT_S) < 0.01


def test_what_stays_slow_becomes_usual_but_not_within_minutes() -> None:
    strain = Strain()
    now = calls(strain, calls(strain, 100.0, 600.0), 120.0, ms=500.0)

    assert strain.index(now) > BUSY_FROM


def test_of_several_endpoints_each_counts_by_the_calls_it_gets() -> None:
    well, ill, idle = Vitals(), Vitals(), Vitals()
    calls(well.strain, 100.0, 30.0)
    now = calls(ill.strain, 100.0, 30.0, fails=9)

    assert index([ill], now) == 1.0
    assert index([ill, idle], now) == pytest.approx(1.0)
    assert index([ill, well], now) == pytest.approx(0.5, abs=0.05)
    assert index([well, idle], now) < 0.01
    assert index([], now) == index([idle], now) == 0.0


def test_where_all_are_paused_load_is_full_and_a_paused_one_beside_others_counts_for_nothing() -> None:
    now = 100.0
    health = Health(lambda: now)
    for _ in range(FAILURES_TO_OPEN):
        health.failed("a")
    calls(health.of("b").strain, 70.0, 30.0)

    assert index([health.of("a")], now) == 1.0
    assert index([health.of("a"), health.of("b")], now) < 0.01


def test_a_level_rises_at_once_is_held_and_falls_slowly() -> None:
    level = Level()

    assert level.heed(BUSY_FROM - 0.01, 0.0) == 0.0 and not level.busy
    assert level.heed(0.85, 1.0) == pytest.approx(0.5) and level.busy
    assert level.heed(1.0, 2.0) == 1.0
    assert level.heed(BUSY_UNTIL, 100.0) == 1.0
    assert level.heed(0.0, 101.0) == level.heed(0.0, 101.0 + HELD_S) == 1.0
    assert level.heed(0.0, 101.0 + HELD_S + FALLS_IN_S / 2) == pytest.approx(0.5)
    assert level.heed(0.0, 101.0 + HELD_S + FALLS_IN_S) == 0.0 and not level.busy


def test_who_asks_again_after_long_finds_it_calm() -> None:
    level = Level()
    level.heed(1.0, 0.0)
    level.heed(0.0, 1000.0)

    assert level.heed(0.0, 1000.0 + HELD_S + FALLS_IN_S) == 0.0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 30)), max_size=60))
def test_a_level_is_never_above_what_load_has_called_for(steps: list[tuple[float, float]]) -> None:
    level, now, most = Level(), 0.0, 0.0
    for load, wait_s in steps:
        now += wait_s
        before = level.value
        most = max(most, min(max(load - BUSY_FROM, 0) / (1 - BUSY_FROM), 1.0))
        value = level.heed(load, now)

        assert 0 <= value <= most <= 1
        assert value >= before if load >= BUSY_UNTIL else value <= before
        assert level.busy or value == 0
