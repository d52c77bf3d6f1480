"""Buckets of time, as hypothesis finds them."""

from __future__ import annotations

from datetime import UTC, datetime
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.rules import Period, Window, WindowKind
from gateway.admission.windows import bucket_ends, bucket_of, first_bucket, resets_at

MOMENTS = st.floats(0, 4e9)
ROLLING = st.integers(1, 400 * 86_400).map(lambda seconds: Window(WindowKind.ROLLING, seconds=seconds))
CALENDAR = st.sampled_from(Period).map(lambda period: Window(WindowKind.CALENDAR, period=period))
WINDOWS = st.one_of(st.just(Window()), CALENDAR, ROLLING)


@given(WINDOWS, MOMENTS)
def test_the_running_bucket_holds_the_moment(window: Window, now_s: float) -> None:
    assert bucket_of(window, now_s) <= now_s < bucket_ends(window, now_s)
    assert first_bucket(window, now_s) <= bucket_of(window, now_s)


@given(WINDOWS, MOMENTS)
def test_buckets_follow_each_other_without_a_gap(window: Window, now_s: float) -> None:
    end = bucket_ends(window, now_s)

    assert end == inf or bucket_of(window, end) == end
    assert end == inf or bucket_of(window, end - 0.001) == bucket_of(window, now_s)


@given(WINDOWS, MOMENTS, st.floats(0, 1e8))
def test_what_counts_only_moves_forward(window: Window, now_s: float, later_s: float) -> None:
    assert bucket_of(window, now_s) <= bucket_of(window, now_s + later_s)
    assert first_bucket(window, now_s) <= first_bucket(window, now_s + later_s)


@given(ROLLING, MOMENTS)
def test_a_rolling_window_is_never_shorter_than_it_says_and_longer_by_less_than_two_buckets(
    window: Window, now_s: float
) -> None:
    assert window.seconds is not None
    width = bucket_ends(window, now_s) - bucket_of(window, now_s)

    assert width >= 1 and width <= window.seconds / 60 + 1
    assert window.seconds <= now_s - first_bucket(window, now_s) < window.seconds + 2 * width


@given(WINDOWS, MOMENTS)
def test_what_is_spent_now_counts_until_the_reset_and_not_after(window: Window, now_s: float) -> None:
    end = resets_at(window, now_s)
    bucket = bucket_of(window, now_s)

    if end is None:
        assert window.kind is WindowKind.TOTAL
    else:
        assert first_bucket(window, end - 0.001) <= bucket < first_bucket(window, end)


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        (Period.HOUR, "2024-02-29T23:00", "2024-03-01T00:00"),
        (Period.DAY, "2024-02-29T00:00", "2024-03-01T00:00"),
        (Period.WEEK, "2024-02-26T00:00", "2024-03-04T00:00"),
        (Period.MONTH, "2024-02-01T00:00", "2024-03-01T00:00"),
    ],
)
def test_calendar_periods_are_those_of_the_calendar(period: Period, start: str, end: str) -> None:
    window, now_s = Window(WindowKind.CALENDAR, period=period), _seconds("2024-02-29T23:59")

    assert (bucket_of(window, now_s), resets_at(window, now_s)) == (_seconds(start), _seconds(end))


def test_weeks_begin_on_monday() -> None:
    window = Window(WindowKind.CALENDAR, period=Period.WEEK)

    assert datetime.fromtimestamp(bucket_of(window, _seconds("2026-11-22T12:00")), UTC).strftime("%a %d") == "Mon 16"


@pytest.mark.parametrize("window", [Window(WindowKind.CALENDAR), Window(WindowKind.ROLLING)])
def test_a_window_without_its_length_is_refused(window: Window) -> None:
    with pytest.raises(ValueError, match="needs its"):
        bucket_of(window, 0)


def _seconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp())
