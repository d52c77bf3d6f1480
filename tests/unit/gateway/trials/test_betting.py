"""Bets on our own coin: what they prove is so, however often one looks and whatever traffic does."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.lifecycle.trials.betting import Coin, Doubles, Flags, Margins, Units, Wagers, _terms

ALPHA = 0.1
Drawn = Callable[[np.random.Generator, Flags], Doubles]


def crossed(tolerance: float, relative: bool, drawn: Drawn, *, trials: int, units: int, share: float) -> float:
    """How many of the trials prove harm at any of their looks."""
    harms = 0
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        wagers = Wagers.begin(Margins.of(tolerance, relative=relative))
        for _ in range(units // 50):
            canary = rng.random(50) < share
            wagers.take(Units(drawn(rng, canary), canary, np.full(50, share)))
            if wagers.above(tolerance) >= math.log(1 / ALPHA):
                harms += 1
                break
    return harms / trials


def rates(control: float, canary: float) -> Drawn:
    return lambda rng, arm: (rng.random(len(arm)) < np.where(arm, canary, control)).astype(float)


def drifting(rng: np.random.Generator, arm: Flags) -> Doubles:
    """All fail now and then, both arms alike: an outage."""
    return rates(*(2 * [float(rng.choice([0.0, 0.9]))]))(rng, arm)


@pytest.mark.parametrize("share", [0.05, 0.5])
@pytest.mark.parametrize("drawn", [rates(0.05, 0.05), drifting], ids=["steady", "outages"])
def test_no_harm_is_seldom_called_harm_however_often_one_looks(share: float, drawn: Drawn) -> None:
    found = crossed(0.0, False, drawn, trials=60, units=2000, share=share)

    assert found <= ALPHA + 2 * math.sqrt(ALPHA * (1 - ALPHA) / 60)


def test_harm_just_as_large_as_tolerated_is_seldom_called_harm() -> None:
    found = crossed(0.05, False, rates(0.05, 0.1), trials=60, units=2000, share=0.2)

    assert found <= ALPHA + 2 * math.sqrt(ALPHA * (1 - ALPHA) / 60)


def test_a_cost_just_as_much_higher_as_tolerated_is_seldom_called_harm() -> None:
    def dearer(rng: np.random.Generator, arm: Flags) -> Doubles:
        return rng.beta(2, 18, len(arm)) * np.where(arm, 1.25, 1.0)

    assert crossed(0.25, True, dearer, trials=60, units=2000, share=0.2) <= ALPHA + 0.08


@pytest.mark.parametrize(
    ("tolerance", "relative", "drawn"),
    [
        (0.01, False, rates(0.01, 0.08)),
        (0.1, True, lambda rng, arm: rng.beta(2, 18, len(arm)) * np.where(arm, 1.6, 1.0)),
    ],
    ids=["errors", "cost"],
)
def test_real_harm_is_found(tolerance: float, relative: bool, drawn: Drawn) -> None:
    assert crossed(tolerance, relative, drawn, trials=5, units=6000, share=0.2) == 1.0


def test_the_absence_of_harm_is_found_too() -> None:
    rng, wagers = np.random.default_rng(3), Wagers.begin(Margins.of(0.05, relative=False))
    canary = rng.random(3000) < 0.5

    wagers.take(Units(rates(0.02, 0.02)(rng, canary), canary, np.full(3000, 0.5)))

    assert wagers.below(0.05) > math.log(1 / 0.01) and wagers.above(0.05) < 0
    low, high = wagers.interval(0.05)
    assert -0.05 <= low < 0 < high <= 0.05


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=40),
    st.floats(0.005, 0.95),
    st.integers(0, 40),
    st.booleans(),
)
def test_it_does_not_matter_in_which_parts_units_come(
    rows: list[tuple[float, bool]], share: float, cut: int, relative: bool
) -> None:
    whole, parts = (Wagers.begin(Margins.of(0.01, relative=relative)) for _ in range(2))

    whole.take(units(rows, share))
    parts.take(units(rows[:cut], share))
    parts.take(units(rows[cut:], share))

    np.testing.assert_allclose(whole.up, parts.up, atol=1e-9)
    np.testing.assert_allclose(whole.down, parts.down, atol=1e-9)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.005, 0.95), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_no_unit_can_lose_more_than_is_staked_and_its_term_is_fair(
    canary: float, control: float, share: float, guess: float, mean: float, relative: bool
) -> None:
    margins = Margins.of(0.01, relative=relative)
    both = Units(np.array([canary, control]), np.array([True, False]), np.full(2, share))

    term, low, high = _terms(both, np.full(2, guess), margins)

    assert (low > 0).all() and (high > 0).all()
    assert (term >= -low - 1e-9).all() and (term <= high + 1e-9).all()
    expected = share * term[0] + (1 - share) * term[1]
    effect = canary - (1 + margins.values) * control if relative else canary - control - margins.values
    np.testing.assert_allclose(expected, effect, atol=1e-9)


def test_an_arm_whose_units_do_not_come_back_is_noticed_and_a_fair_coin_is_not() -> None:
    rng = np.random.default_rng(0)
    fair, lost, other = (Coin.begin() for _ in range(3))
    share = np.full(2000, 0.1)

    fair.take(Units(np.zeros(2000), rng.random(2000) < 0.1, share))
    lost.take(Units(np.zeros(2000), rng.random(2000) < 0.05, share))
    other.take(Units(np.zeros(2000), rng.random(2000) < 0.2, share))

    assert max(fair.canary_missing(), fair.control_missing()) < math.log(20)
    assert lost.canary_missing() > math.log(1000) > lost.control_missing()
    assert other.control_missing() > math.log(1000) > other.canary_missing()


def units(rows: list[tuple[float, bool]], share: float) -> Units:
    return Units(
        np.array([value for value, _ in rows]),
        np.array([arm for _, arm in rows], dtype=bool),
        np.full(len(rows), share),
    )


@given(st.floats(0.1, 1), st.floats(0, 1), st.floats(0.005, 0.95))
def test_no_bet_wins_on_average_where_the_effect_is_just_the_margin(value: float, before: float, share: float) -> None:
    """So a unit's guess is made before it comes, whatever came before."""
    served, other = (Wagers.begin(Margins.of(0.1, relative=False)) for _ in range(2))
    for wagers, rows in ((served, [(value, True)]), (other, [(value - 0.1, False)])):
        wagers.take(units([(before, True)], share))
        wagers.up[:], wagers.down[:] = 0.0, 0.0
        wagers.take(units(rows, share))

    place = served.margins.at(0.1)
    for name in ("up", "down"):
        won, lost = (np.exp(getattr(one, name)[place]) for one in (served, other))
        np.testing.assert_allclose(share * won + (1 - share) * lost, 1.0, rtol=1e-9)
