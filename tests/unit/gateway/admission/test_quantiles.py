"""The upper quantile of a sliding histogram: its rank, its guarantee, its memory, and answers that were cut off."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.quantiles import UpperQuantile

BIN = 2 ** (1 / 8)


@given(
    st.lists(st.floats(0.02, 60), min_size=64, max_size=256).map(
        lambda found: found[: (len(found) - 31) // 32 * 32 + 31]
    )
)
def test_it_is_the_conformal_rank_rounded_up_by_one_bin_at_most(ratios: list[float]) -> None:
    quantile = UpperQuantile(0.9, 1.0)
    for ratio in ratios:
        quantile.add(ratio)
    exact = sorted(ratios)[math.ceil((len(ratios) + 1) * 0.9) - 1]

    assert exact * (1 - 1e-6) <= quantile.value <= exact * BIN * (1 + 1e-6)


@given(st.lists(st.tuples(st.floats(1e-9, 1e9), st.booleans()), min_size=1, max_size=200))
def test_any_ratios_give_a_value_within_bounds_that_few_never_lower(ratios: list[tuple[float, bool]]) -> None:
    quantile = UpperQuantile(0.9, 1.0)
    for ratio, cut in ratios:
        quantile.add(ratio, cut)

    assert 1 / 64 <= quantile.value <= 64 * 1.0001
    assert len(ratios) >= 30 or quantile.value >= 1.0


@given(st.lists(st.floats(0.1, 8), min_size=100, max_size=100))
def test_cut_answers_never_lower_it(ratios: list[float]) -> None:
    seen, cut = UpperQuantile(0.9, 1.0), UpperQuantile(0.9, 1.0)
    for ratio in ratios:
        seen.add(ratio)
        cut.add(min(ratio, 1.0), ratio > 1.0)
    whole = UpperQuantile(0.9, 1.0)
    for ratio in ratios:
        whole.add(min(ratio, 1.0))

    assert cut.value >= whole.value


def test_old_ratios_are_forgotten() -> None:
    quantile = UpperQuantile(0.9, 1.0, window=100)
    for _ in range(300):
        quantile.add(20)
    for _ in range(200):
        quantile.add(0.5)

    assert quantile.value == pytest.approx(0.5) and quantile.count <= 200


@pytest.mark.parametrize("level", [0.9, 0.99])
def test_the_next_ratio_stays_below_with_the_probability_promised(level: float) -> None:
    rng, quantile, kept, rounds = random.Random(1), UpperQuantile(level, 1.0), 0, 20_000
    for number in range(rounds + 200):
        ratio = min(rng.lognormvariate(0.5, 0.8), 50)
        kept += number >= 200 and ratio <= quantile.value
        quantile.add(ratio)

    assert level - 0.006 <= kept / rounds <= level + (1 - level) * 0.45


def test_cut_answers_at_random_caps_do_not_bias_it() -> None:
    rng, quantile = random.Random(2), UpperQuantile(0.9, 1.0, window=4000)
    for _ in range(8000):
        ratio, cap = rng.lognormvariate(0, 0.7), rng.lognormvariate(0.5, 0.7)
        quantile.add(min(ratio, cap), cap < ratio)
    true = math.exp(0.7 * 1.2816)

    assert true * 0.93 <= quantile.value <= true * 1.07 * BIN
