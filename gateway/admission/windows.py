"""Arithmetic of budget windows: which bucket of time money is booked in, and which buckets count now. Pure.

A bucket is named by its first second (Unix time). What counts now is whatever lies in buckets that begin at or after
`first_bucket`. Every store keeps to three rules: a settlement is booked in the bucket of the moment when it was made, a
lease that expired in the bucket of its last admission or extension (so that no window's spending ever grows by more
than was reserved in it; what it really cost, if that is ever told, corrects the same bucket while that counts), and
buckets before `first_bucket` of the budget's present window may be forgotten.
"""

from __future__ import annotations

from datetime import UTC, datetime
from math import inf
from typing import Final

from gateway.admission.rules import Period, Window, WindowKind

ROLLING_BUCKETS: Final = 60

_HOUR_S: Final = 3_600
_DAY_S: Final = 24 * _HOUR_S
_WEEK_S: Final = 7 * _DAY_S
_FIRST_MONDAY_S: Final = 4 * _DAY_S  # the epoch was a Thursday


def bucket_of(window: Window, now_s: float) -> int:
    """The bucket that money spent at `now_s` is booked in: 0 for totals, else the start of the running period, or of
    the running sixtieth of a rolling window. Raises `ValueError` for a window without its period or seconds."""
    if window.kind is WindowKind.TOTAL:
        return 0
    if window.kind is WindowKind.ROLLING:
        width = _width_s(window)
        return int(now_s // width) * width
    return _period_start(_period(window), now_s)


def first_bucket(window: Window, now_s: float) -> int:
    """The oldest bucket that still counts.

    A rolling window is cut into (at most) 60 equal buckets of whole seconds, and counts as many whole ones as cover
    `seconds` plus the running one: so it is never shorter than `seconds`, and longer by less than two buckets.
    """
    bucket = bucket_of(window, now_s)
    return bucket - _span_s(window) if window.kind is WindowKind.ROLLING else bucket


def still_counts(window: Window, at_s: float, now_s: float) -> bool:
    """Whether what was booked for the moment `at_s` counts at `now_s`."""
    return bucket_of(window, at_s) >= first_bucket(window, now_s)


def bucket_ends(window: Window, now_s: float) -> float:
    """When the running bucket ends, in Unix seconds; infinite for totals."""
    if window.kind is WindowKind.TOTAL:
        return inf
    bucket = bucket_of(window, now_s)
    if window.kind is WindowKind.ROLLING:
        return float(bucket + _width_s(window))
    return float(_period_end(_period(window), bucket))


def resets_at(window: Window, now_s: float) -> float | None:
    """When nothing that is spent by now counts any more, in Unix seconds; None: never."""
    if window.kind is WindowKind.TOTAL:
        return None
    span = _span_s(window) if window.kind is WindowKind.ROLLING else 0
    return bucket_ends(window, now_s) + span


def _width_s(window: Window) -> int:
    if window.seconds is None or window.seconds < 1:
        raise ValueError("a rolling window needs its seconds")
    return -(-window.seconds // ROLLING_BUCKETS)


def _span_s(window: Window) -> int:
    """The whole buckets' seconds: `seconds`, rounded up to buckets."""
    width = _width_s(window)
    return -(-(window.seconds or 0) // width) * width


def _period(window: Window) -> Period:
    if window.period is None:
        raise ValueError("a calendar window needs its period")
    return window.period


def _period_start(period: Period, now_s: float) -> int:
    if period is Period.HOUR:
        return int(now_s // _HOUR_S) * _HOUR_S
    if period is Period.DAY:
        return int(now_s // _DAY_S) * _DAY_S
    if period is Period.WEEK:
        return int((now_s - _FIRST_MONDAY_S) // _WEEK_S) * _WEEK_S + _FIRST_MONDAY_S
    moment = datetime.fromtimestamp(now_s, UTC)
    return int(datetime(moment.year, moment.month, 1, tzinfo=UTC).timestamp())


def _period_end(period: Period, start: int) -> int:
    if period is Period.MONTH:
        return _period_start(period, start + 31 * _DAY_S)
    return start + {Period.HOUR: _HOUR_S, Period.DAY: _DAY_S, Period.WEEK: _WEEK_S}[period]
