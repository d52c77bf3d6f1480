"""Rate limits in this process's memory: requests and tokens a minute by GCRA, calls at once by a count.

Knows no money and no lease, only holds: what one call has taken. Nothing here waits, so every step is one piece.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Final

from gateway.admission.gauges import Granted, Kind, Refused
from gateway.admission.pacing import MINUTE_S, Pace, ahead_s, moved, pace_of, quota, taken_s, wait_s
from gateway.admission.rules import RateLimit

# Each new gauge pays for looking at so many old ones, so that idle ones never pile up.
LOOKED_AT: Final = 2


@dataclass(slots=True, eq=False)
class _Gauge:
    """State of one limit, and the limit itself as it was last seen."""

    limit: RateLimit
    requests: Pace | None
    tokens: Pace | None
    places: float
    requests_tat: float
    tokens_tat: float
    running: int = 0


@dataclass(slots=True, eq=False)
class Hold:
    """What one call has taken of its limits: a request and a place of each, and so many tokens."""

    limits: Sequence[RateLimit]
    tokens: int

    def has(self, limit: RateLimit) -> bool:
        """Whether this limit, however it was changed meanwhile, is among them."""
        return any(one.id == limit.id for one in self.limits)


class MemoryLimits:
    """All limits of one process. `share` is the part of each that this process may use alone, never below 1.

    Memory is bounded by the limits that were in use lately.
    """

    def __init__(self, share: float = 1.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._clock = monotonic
        self._gauges: dict[str, _Gauge] = {}
        self._added = 0

    def __len__(self) -> int:
        """How many gauges are kept."""
        return len(self._gauges)

    def take(self, limits: Sequence[RateLimit], tokens: int, old: Hold | None = None) -> Granted | Refused:
        """Take one request, one place and `tokens` of each limit, or nothing; quotas are those with the least left.

        `old` is the hold whose place this one takes: of a limit that both have only the difference in tokens is taken.
        The caller then ends `old` with `drop`, or undoes this step with `undo`.
        """
        now = self._clock()
        if self._added:
            self._forget_idle(now)
        takes = []
        least_requests = least_tokens = inf
        requests_of = tokens_of = None
        for limit in limits:
            gauge = self._gauges.get(limit.id)
            if gauge is None or gauge.limit is not limit:
                gauge = self._gauge(limit, gauge, now)
            count, amount = 1, tokens
            if old is not None and old.has(limit):
                count, amount = 0, tokens - old.tokens
            if count and gauge.running >= gauge.places:
                return _refused(Kind.CONCURRENT, gauge, now, None)
            requests_s = tokens_s = 0.0
            if (pace := gauge.requests) is not None:
                requests_s = taken_s(gauge.requests_tat, now, pace, count)
                if requests_s < 0.0:
                    return _refused(Kind.REQUESTS, gauge, now, wait_s(gauge.requests_tat, now, pace, count))
                if (left := (MINUTE_S - requests_s) / pace.interval_s) < least_requests:
                    least_requests, requests_of = left, gauge
            if (pace := gauge.tokens) is not None:
                tokens_s = taken_s(gauge.tokens_tat, now, pace, amount)
                if tokens_s < 0.0:
                    return _refused(Kind.TOKENS, gauge, now, wait_s(gauge.tokens_tat, now, pace, amount))
                if (left := (MINUTE_S - tokens_s) / pace.interval_s) < least_tokens:
                    least_tokens, tokens_of = left, gauge
            takes.append((gauge, count, now + requests_s, now + tokens_s))
        for gauge, count, requests_tat, tokens_tat in takes:
            gauge.running += count
            gauge.requests_tat = requests_tat
            gauge.tokens_tat = tokens_tat
        return _granted(requests_of, tokens_of, now)

    def undo(self, hold: Hold, old: Hold | None = None) -> None:
        """Give back all that `take` has taken, as if the call had never come; `old` stays."""
        for limit in hold.limits:
            if old is not None and old.has(limit):
                self._move(limit, 0, 0, old.tokens - hold.tokens)
            else:
                self._move(limit, -1, -1, -hold.tokens)

    def drop(self, old: Hold, new: Hold) -> None:
        """End a hold whose place another has taken; its requests stay counted, its tokens don't."""
        for limit in old.limits:
            if not new.has(limit):
                self._move(limit, -1, 0, -old.tokens)

    def settle(self, hold: Hold, tokens: int) -> None:
        """End a hold that has really used so many tokens."""
        now, more = self._clock(), tokens - hold.tokens
        for limit in hold.limits:
            gauge = self._gauges.get(limit.id)
            if gauge is not None:
                gauge.running -= 1
                if gauge.tokens is not None:
                    gauge.tokens_tat = moved(gauge.tokens_tat, now, gauge.tokens, more)

    def _move(self, limit: RateLimit, running: int, requests: int, tokens: int) -> None:
        gauge = self._gauges.get(limit.id)
        if gauge is None:
            return
        gauge.running += running
        if tokens and gauge.tokens is not None:
            gauge.tokens_tat = moved(gauge.tokens_tat, self._clock(), gauge.tokens, tokens)
        if requests and gauge.requests is not None:
            gauge.requests_tat = moved(gauge.requests_tat, self._clock(), gauge.requests, requests)

    def _gauge(self, limit: RateLimit, gauge: _Gauge | None, now: float) -> _Gauge:
        """A gauge that knows this limit: the old one with the limit as it is now, or a new one."""
        if gauge is None:
            self._added += 1
            gauge = self._gauges[limit.id] = _Gauge(limit, None, None, inf, now, now)
        elif gauge.limit == limit:
            gauge.limit = limit
            return gauge
        requests, tokens, places = limit.requests_per_minute, limit.tokens_per_minute, limit.concurrent_requests
        gauge.limit = limit
        gauge.requests = pace_of(requests, self._share) if requests is not None else None
        gauge.tokens = pace_of(tokens, self._share) if tokens is not None else None
        gauge.places = min(places, max(1, int(places * self._share))) if places is not None else inf
        return gauge

    def _forget_idle(self, now: float) -> None:
        """Look at a few of the oldest gauges for each that was added; one that says no more than a new one would is
        forgotten."""
        looked_at, self._added = LOOKED_AT * self._added, 0
        for limit_id in list(islice(self._gauges, looked_at)):
            gauge = self._gauges.pop(limit_id)
            if gauge.running or gauge.requests_tat > now or gauge.tokens_tat > now:
                self._gauges[limit_id] = gauge


def _granted(requests_of: _Gauge | None, tokens_of: _Gauge | None, now: float) -> Granted:
    requests = tokens = None
    if requests_of is not None and requests_of.requests is not None:
        requests = quota(requests_of.requests_tat, now, requests_of.requests)
    if tokens_of is not None and tokens_of.tokens is not None:
        tokens = quota(tokens_of.tokens_tat, now, tokens_of.tokens)
    return Granted(requests, tokens)


def _refused(kind: Kind, gauge: _Gauge, now: float, wait: float | None) -> Refused:
    if gauge.requests is not None:
        gauge.requests_tat = now + ahead_s(gauge.requests_tat, now, gauge.requests)
    if gauge.tokens is not None:
        gauge.tokens_tat = now + ahead_s(gauge.tokens_tat, now, gauge.tokens)
    seen = _granted(gauge, gauge, now)
    return Refused(kind, gauge.limit.id, 0, wait, seen.requests, seen.tokens)
