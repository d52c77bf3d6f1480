"""GCRA against a bucket that is filled drop by drop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.pacing import MINUTE_S, ahead_s, moved, pace_of, quota, taken_s, wait_s

LIMITS = st.integers(1, 10**9)
CLOCKS = st.floats(1e3, 4e9)


@given(st.integers(1, 50), st.lists(st.tuples(st.floats(0, 30), st.integers(1, 60)), max_size=60))
def test_it_passes_what_a_bucket_of_tokens_would_pass(limit: int, calls: list[tuple[float, int]]) -> None:
    pace, now, tat, bucket = pace_of(limit), 1_000.0, 0.0, float(limit)
    for pause, amount in calls:
        now += pause
        bucket = min(limit, bucket + pause * limit / MINUTE_S)
        passes = wait_s(tat, now, pace, amount) == 0
        if abs(bucket - amount) > 1e-4:  # where rounding decides, both answers are right
            assert passes is (bucket > amount)
        if passes:
            tat, bucket = moved(tat, now, pace, amount), bucket - amount


@given(LIMITS, CLOCKS, st.floats(0, MINUTE_S), st.data())
def test_what_a_quota_promises_passes_and_no_more(limit: int, now: float, ahead: float, draw: st.DataObject) -> None:
    pace, tat = pace_of(limit), now + ahead
    seen = quota(tat, now, pace)

    assert 0 <= seen.remaining <= seen.limit == limit and 0 <= seen.reset_s <= MINUTE_S + 1e-6
    assert wait_s(tat, now, pace, draw.draw(st.integers(0, seen.remaining))) == 0
    assert quota(tat, now + seen.reset_s + 1e-3, pace).remaining == limit


@given(LIMITS, CLOCKS, st.floats(0, 60), st.data())
def test_after_the_wait_it_passes(limit: int, now: float, ahead: float, draw: st.DataObject) -> None:
    pace, amount = pace_of(limit), draw.draw(st.integers(1, limit))
    wait = wait_s(now + ahead, now, pace, amount)

    assert wait is not None and 0 <= wait <= MINUTE_S
    assert wait_s(now + ahead, now + wait + 1e-6, pace, amount) == 0


@given(LIMITS, CLOCKS, st.floats(-1e9, 1e9))
def test_a_clock_that_jumps_locks_nobody_out_for_more_than_a_minute(limit: int, now: float, jump: float) -> None:
    pace = pace_of(limit)
    kept = now + ahead_s(now + jump, now, pace)
    wait = wait_s(kept, now, pace, limit)

    assert wait is not None and wait <= MINUTE_S
    assert wait_s(kept, now + wait + 1e-6, pace, limit) == 0


@given(st.integers(2, 10**6), CLOCKS, st.data())
def test_what_was_set_aside_too_much_comes_back(limit: int, now: float, draw: st.DataObject) -> None:
    pace, taken = pace_of(limit), draw.draw(st.integers(1, limit))
    used = draw.draw(st.integers(0, taken))
    tat = moved(moved(0, now, pace, taken), now, pace, used - taken)

    assert abs(quota(tat, now, pace).remaining - (limit - used)) <= 1


@given(LIMITS, CLOCKS, st.integers(1, 10**12))
def test_using_more_than_was_set_aside_costs_at_most_a_minute(limit: int, now: float, more: int) -> None:
    assert now <= moved(0, now, pace_of(limit), more) <= now + MINUTE_S + 1e-6


@given(LIMITS, CLOCKS)
def test_more_than_the_whole_limit_never_passes(limit: int, now: float) -> None:
    assert wait_s(0, now, pace_of(limit), limit + 1) is None


@given(LIMITS, CLOCKS, st.floats(0, 90), st.integers(0, 10**9))
def test_taking_is_moving_where_there_is_no_wait(limit: int, now: float, ahead: float, amount: int) -> None:
    pace, tat = pace_of(limit), now + ahead
    taken = taken_s(tat, now, pace, amount)

    assert (taken >= 0) is (wait_s(tat, now, pace, amount) == 0)
    if taken >= 0:
        assert now + taken == pytest.approx(moved(tat, now, pace, amount), abs=1e-5)


@given(st.integers(1, 10**6), st.floats(0.01, 1), CLOCKS)
def test_a_share_is_slower_but_refuses_nothing_for_good(limit: int, share: float, now: float) -> None:
    pace = pace_of(limit, share)
    tat = moved(0, now, pace, limit)

    assert 1 <= pace.allowance <= limit
    assert wait_s(0, now, pace, limit) == 0
    assert tat - now == pytest.approx(max(MINUTE_S, limit * pace.interval_s))
    assert wait_s(tat, tat, pace, 1) == 0


def test_a_limit_of_nothing_refuses_all() -> None:
    assert wait_s(0, 1_000, pace_of(0), 1) is None
    assert (quota(0, 1_000, pace_of(0)).limit, quota(0, 1_000, pace_of(0)).remaining) == (0, 0)
