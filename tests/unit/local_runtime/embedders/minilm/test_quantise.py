"""Rounding to int8: within half a step, one scale per channel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_runtime.embedders.minilm.quantise import FULL_RANGE, HALF_RANGE, by_column, by_row, smoothing

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.sampled_from([FULL_RANGE, HALF_RANGE]))
def test_a_weight_is_off_by_no_more_than_half_a_step(seed: int, levels: int) -> None:
    weight = np.random.default_rng(seed).normal(size=(7, 5)).astype(np.float32)

    rounded, scale = by_column(weight, levels)

    assert np.abs(rounded.astype(int)).max() == levels
    assert (np.abs(rounded * scale - weight) <= scale / 2 * 1.001).all()


@given(seeds)
def test_a_loud_row_takes_no_levels_from_a_quiet_one(seed: int) -> None:
    table = np.random.default_rng(seed).normal(size=(3, 8)).astype(np.float32) * np.array(
        [[1], [1000], [0.001]], np.float32
    )

    rounded, scale = by_row(table)

    assert (np.abs(rounded.astype(int)).max(axis=1) == FULL_RANGE).all()
    assert (np.abs(rounded * scale - table) <= scale / 2 * 1.001).all()


def test_zeros_stay_zeros() -> None:
    rounded, scale = by_column(np.zeros((4, 2), np.float32), FULL_RANGE)

    assert not rounded.any()
    assert np.isfinite(scale).all()


def test_a_loud_channel_is_divided_most_and_the_mean_stays() -> None:
    divisors = smoothing(np.array([1, 1, 64], np.float32), np.ones((3, 2), np.float32))

    assert divisors[2] == 8 * divisors[0]
    assert np.log2(divisors).mean() == pytest.approx(0, abs=0.25)


@given(seeds)
def test_the_last_bits_of_a_measurement_change_no_divisor(seed: int) -> None:
    generator = np.random.default_rng(seed)
    peaks, weight = generator.uniform(0.1, 9, 20).astype(np.float32), generator.normal(size=(20, 4)).astype(np.float32)

    here, there = smoothing(peaks, weight), smoothing(peaks * np.float32(1 + 1e-6), weight)

    assert (here == there).mean() >= 0.9
