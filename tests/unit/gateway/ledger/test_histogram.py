"""Quantiles out of buckets."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.histogram import BOUNDS_MS, BUCKETS, GROWTH, bucket_of, quantile

TIMES = st.lists(st.floats(1.0, 1_000_000.0), min_size=1, max_size=300)


def _counts(times: list[float]) -> list[int]:
    counts = [0] * BUCKETS
    for ms in times:
        counts[bucket_of(ms)] += 1
    return counts


@given(TIMES, st.floats(0.0, 1.0))
def test_a_quantile_is_at_most_a_bucket_off(times: list[float], share: float) -> None:
    told = quantile(_counts(times), share)

    rank = max(1, -(-share * len(times) // 1))
    true = sorted(times)[int(rank) - 1]
    assert told is not None and true / GROWTH * 0.999 <= told <= true * GROWTH * 1.001


@given(TIMES, TIMES, st.sampled_from([0.5, 0.95, 0.99]))
def test_histograms_are_merged_by_adding(one: list[float], other: list[float], share: float) -> None:
    added = [a + b for a, b in zip(_counts(one), _counts(other), strict=True)]

    assert quantile(added, share) == quantile(_counts(one + other), share)


def test_many_times_are_told_within_two_percent() -> None:
    spread = NormalDist(7.0, 0.9)
    times = [math.exp(spread.inv_cdf((number + 0.5) / 8_000)) for number in range(8_000)]

    for share in (0.05, 0.5, 0.95, 0.99):
        assert quantile(_counts(times), share) == pytest.approx(times[int(share * 8_000)], rel=0.02)


@pytest.mark.parametrize(("ms", "bucket"), [(0.0, 0), (0.999, 0), (1.0, 1), (1.25, 2), (1e12, BUCKETS - 1)])
def test_a_bucket_begins_where_the_one_before_ends(ms: float, bucket: int) -> None:
    assert bucket_of(ms) == bucket


def test_what_is_beyond_the_buckets_is_told_as_their_ends() -> None:
    assert quantile(_counts([1e9]), 0.5) == BOUNDS_MS[-1] > 1_000_000
    assert quantile(_counts([0.3] * 4), 0.5) == 0.5
    assert quantile([0] * BUCKETS, 0.5) is None


def test_a_share_above_one_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        quantile(_counts([5.0]), 1.5)
