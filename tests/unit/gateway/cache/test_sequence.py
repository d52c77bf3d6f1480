"""Bounds that hold at all times: how often they fail, how many labels they need, what they are made of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.sequence import log_capital, lower_bound, upper_bound

ALPHA = 0.05
Flags = npt.NDArray[np.bool_]


def refuted_at(wrong: Flags, mean: float) -> int | None:
    """After how many labels a mean is refuted by one who looks after each."""
    count = 0
    for number, is_wrong in enumerate(wrong.tolist(), 1):
        count += is_wrong
        if is_wrong and log_capital({1.0: count, 0.0: number - count}, mean) >= -np.log(ALPHA):
            return number
    return None


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.2])
def test_whoever_looks_after_each_label_is_misled_in_at_most_alpha_of_all_streams(rate: float) -> None:
    chance = np.random.default_rng(7)

    misled = sum(refuted_at(chance.random(3000) < rate, rate) is not None for _ in range(200))

    assert misled <= 200 * ALPHA + 2 * np.sqrt(200 * ALPHA * (1 - ALPHA))


@pytest.mark.parametrize(("share", "most"), [(0.05, 600), (0.1, 300)])
def test_twice_the_share_is_found_after_some_hundred_labels(share: float, most: int) -> None:
    chance = np.random.default_rng(8)

    needed = [refuted_at(chance.random(5000) < 2 * share, share) or 5000 for _ in range(60)]

    assert np.quantile(needed, 0.9) <= most


@pytest.mark.parametrize("rate", [0.05, 0.4])
def test_both_bounds_close_in_on_the_rate(rate: float) -> None:
    wrong = int(20_000 * rate)
    labels = {1.0: wrong, 0.0: 20_000 - wrong}

    assert rate - 0.012 < lower_bound(labels, ALPHA) < rate < upper_bound(labels, ALPHA) < rate + 0.012


counts = st.dictionaries(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 500), max_size=3)


@given(counts, st.floats(0.01, 0.9), st.floats(0.001, 0.09))
def test_what_speaks_against_a_rate_speaks_against_all_smaller_ones(
    labels: dict[float, int], mean: float, more: float
) -> None:
    assert log_capital(labels, mean + more) <= log_capital(labels, mean) + 1e-9


@given(counts, counts)
def test_bounds_are_in_order_and_what_was_wrong_in_addition_never_lowers_them(
    labels: dict[float, int], more: dict[float, int]
) -> None:
    worse = {**labels, 1.0: labels.get(1.0, 0) + more.get(1.0, 0)}

    assert 0 <= lower_bound(labels, ALPHA) <= lower_bound(worse, ALPHA) <= 1
    assert lower_bound(labels, ALPHA) <= upper_bound(labels, ALPHA) <= 1


def test_without_labels_nothing_is_refuted() -> None:
    assert (lower_bound({}, ALPHA), upper_bound({}, ALPHA)) == (0.0, 1.0)
