"""GCRA, the generic cell rate algorithm (ITU-T I.371), for so many requests or tokens a minute. Pure.

The whole state is one float, the theoretical arrival time (TAT): how far it is ahead of the clock says how much of the
allowance is used. A minute's allowance may be used at once and comes back evenly over the next minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import Final

from gateway.admission.gauges import Quota

MINUTE_S: Final = 60.0
# Unix seconds are known to a quarter of a microsecond in a float.
_CLOCK_S: Final = 1e-6
_FULL_S: Final = MINUTE_S + _CLOCK_S


@dataclass(frozen=True, slots=True)
class Pace:
    """One allowance: `interval_s` is what one request or token takes, `most` the largest amount ever granted at once,
    `allowance` what may be used at once, `ceiling_s` how far ahead of the clock a TAT can be."""

    interval_s: float
    most: int
    allowance: int
    ceiling_s: float


def pace_of(per_minute: int, share: float = 1.0) -> Pace:
    """The pace of a limit, or of one process's share of it, which is never below 1.

    A demand above the share but not above the limit passes where nothing is in use, and its debt is then waited for,
    so that sharing a limit never refuses for good what the limit itself allows.
    """
    rate = max(1.0, per_minute * min(share, 1.0))
    interval = MINUTE_S / rate
    return Pace(interval, per_minute, min(per_minute, floor(rate)), max(MINUTE_S, per_minute * interval))


def ahead_s(tat: float, now_s: float, pace: Pace) -> float:
    """How far the allowance is used, in seconds: 0 is untouched, and never further ahead than the pace's ceiling.

    A TAT beyond that comes from a clock that was set back. Who keeps `now_s + ahead_s(...)` in its place, also where
    a call is refused, locks nobody out for longer than the ceiling.
    """
    ahead = tat - now_s
    if ahead <= 0.0:
        return 0.0
    if ahead < pace.ceiling_s:
        return ahead
    return pace.ceiling_s


def taken_s(tat: float, now_s: float, pace: Pace, amount: int) -> float:
    """How far ahead of the clock the TAT is when this amount is taken now, -1 where it does not pass. A negative
    amount gives back and always passes."""
    ahead = ahead_s(tat, now_s, pace)
    after = ahead + amount * pace.interval_s
    if amount <= 0:
        return max(0.0, after)
    if amount > pace.most or (after > _FULL_S and ahead > _CLOCK_S):
        return -1.0
    return after


def wait_s(tat: float, now_s: float, pace: Pace, amount: int) -> float | None:
    """How long until this amount passes: 0 is now, None is never, because it is more than the whole limit."""
    if taken_s(tat, now_s, pace, amount) >= 0.0:
        return 0.0
    if amount > pace.most:
        return None
    return ahead_s(tat, now_s, pace) + min(amount * pace.interval_s, MINUTE_S) - MINUTE_S


def moved(tat: float, now_s: float, pace: Pace, amount: int) -> float:
    """The TAT after an amount that must be counted (or, where negative, given back) whether there is room or not.
    Never before the clock; what would lead further ahead than the pace's ceiling is forgiven."""
    after = ahead_s(tat, now_s, pace) + amount * pace.interval_s
    if after <= 0.0:
        return now_s
    if after < pace.ceiling_s:
        return now_s + after
    return now_s + pace.ceiling_s


def quota(tat: float, now_s: float, pace: Pace) -> Quota:
    """What the allowance looks like from outside: that much of it passes at once, and it is whole in `reset_s`."""
    ahead = ahead_s(tat, now_s, pace)
    left = int(max(_FULL_S - _CLOCK_S / 2 - ahead, 0.0) / pace.interval_s)
    return Quota(pace.allowance, min(pace.allowance, left), ahead)
