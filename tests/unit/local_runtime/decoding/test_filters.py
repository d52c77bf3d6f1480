"""Properties of the pure functions on logits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from local_runtime.decoding import filters

finite = st.floats(-50, 50, width=32)
rows = hnp.arrays(np.float32, st.integers(1, 900), elements=finite)
small_rows = hnp.arrays(np.float32, st.integers(2, 40), elements=finite)


def kept(row: np.ndarray) -> set[int]:
    return set(np.flatnonzero(np.isfinite(row)).tolist())


def probabilities(row: np.ndarray) -> np.ndarray:
    weights = np.exp(row.astype(np.float64) - row.max())
    total: np.ndarray = weights / weights.sum()
    return total


@given(rows, st.integers(1, 1000))
def test_top_k_keeps_exactly_k_and_none_worse_than_a_dropped_one(row: np.ndarray, k: int) -> None:
    out = filters.top_k(row, k)
    assert len(kept(out)) == min(k, row.size)
    dropped = [row[i] for i in range(row.size) if i not in kept(out)]
    assert not dropped or min(out[list(kept(out))]) >= max(dropped)


@given(rows, st.floats(0, 1))
def test_top_p_keeps_the_smallest_best_set_that_reaches_p(row: np.ndarray, p: float) -> None:
    chosen = kept(filters.top_p(row, p))
    mass = probabilities(row)
    order = sorted(chosen, key=lambda i: -row[i])
    assert order
    assert mass[order].sum() >= p - 1e-6
    assert len(order) == 1 or mass[order[:-1]].sum() < p + 1e-6
    assert min(row[order]) >= max((row[i] for i in range(row.size) if i not in chosen), default=-np.inf)


@given(rows, st.floats(0, 1))
def test_min_p_keeps_what_is_near_enough_to_the_best(row: np.ndarray, p: float) -> None:
    mass = probabilities(row)
    chosen = kept(filters.min_p(row, p))
    assert int(row.argmax()) in chosen
    assert {i for i in range(row.size) if mass[i] >= p * mass.max() * (1 + 1e-4)} <= chosen
    assert all(mass[i] >= p * mass.max() * (1 - 1e-4) for i in chosen)


@given(small_rows, st.floats(0, 1, exclude_max=True), st.integers(1, 5))
def test_a_draw_never_lands_on_a_removed_token(row: np.ndarray, uniform: float, k: int) -> None:
    out = filters.top_k(row, k)
    assert filters.draw(out, uniform) in kept(out)


def test_draws_follow_the_distribution() -> None:
    row = np.log(np.array([0.5, 0.2, 0.3], dtype=np.float32))
    generator = np.random.default_rng(3)
    counts = np.bincount([filters.draw(row, generator.random()) for _ in range(20_000)], minlength=3)
    assert np.allclose(counts / 20_000, [0.5, 0.2, 0.3], atol=0.015)


@given(small_rows, st.sampled_from([1e-320, 1e-6, 0.5, 1.0, 100.0]))
def test_any_temperature_gives_numbers_and_keeps_the_best_best(row: np.ndarray, temperature: float) -> None:
    out = filters.scaled(row, temperature)
    assert not np.isnan(out).any()
    assert out.max() == 0.0
    assert out[row.argmax()] == 0.0


@given(small_rows, st.lists(st.integers(0, 60), max_size=20), st.floats(1.01, 3))
def test_a_repetition_penalty_only_lowers_what_was_seen(row: np.ndarray, seen: list[int], penalty: float) -> None:
    out = filters.repetition_penalty(row, seen, penalty)
    inside = [i for i in set(seen) if i < row.size]
    others = [i for i in range(row.size) if i not in inside]
    assert np.all(out[inside] <= row[inside])
    assert np.array_equal(out[others], row[others])


def test_presence_counts_once_and_frequency_every_time() -> None:
    row = np.zeros(4, dtype=np.float32)
    out = filters.presence_and_frequency(row, [1, 1, 1, 3], presence=0.5, frequency=0.25)
    assert out.tolist() == [0.0, -1.25, 0.0, -0.75]
    assert row.tolist() == [0.0] * 4


def test_a_bias_is_added_to_the_named_tokens_only() -> None:
    row = np.zeros(3, dtype=np.float32)
    assert filters.bias(row, {2: 5.0, 0: -100.0}).tolist() == [-100.0, 0.0, 5.0]


@given(small_rows)
def test_log_probabilities_sum_to_one(row: np.ndarray) -> None:
    assert np.exp(filters.log_probabilities(row)).sum() == pytest.approx(1.0)


@given(rows, st.integers(1, 30))
def test_best_first_agrees_with_a_full_sort(row: np.ndarray, count: int) -> None:
    want = sorted(range(row.size), key=lambda i: (-row[i], i))[:count]
    assert filters.best_first(row, count) == want


@pytest.mark.parametrize("bad", [[np.nan, 1.0], [-np.inf, -np.inf], [np.inf, 0.0]])
def test_a_row_without_a_finite_best_is_refused(bad: list[float]) -> None:
    with pytest.raises(filters.BadLogits):
        filters.require_finite_best(np.array(bad, dtype=np.float32))
