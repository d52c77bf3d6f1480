"""Rules and answers as the Lua scripts spell them; see lua/base.lua. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.admission.gauges import Granted, Kind, Quota, Refused
from gateway.admission.rules import Budget, Period, RateLimit, Rules, Window, WindowKind
from gateway.admission.windows import bucket_ends, bucket_of, first_bucket, resets_at
from gateway.redis_link import Encoded, encoded

_NANO: Final = 1_000_000_000
_UNBOUNDED: Final = -1
_MONTH: Final = -1
_MONTHLY: Final = Window(WindowKind.CALENDAR, period=Period.MONTH)
_KINDS: Final = {1: Kind.BUDGET, 2: Kind.REQUESTS, 3: Kind.TOKENS, 4: Kind.CONCURRENT}

_BudgetRow = tuple[str, int, int, int, int, int, int]
_LimitRow = tuple[str, int, int, int]
_Spelled = tuple[list[_BudgetRow], list[_LimitRow]]


class SpelledRules:
    """One `Rules` object as scripts read it, and the buckets that its budgets book in; `booked` are those last used."""

    __slots__ = ("_buckets", "_from", "_rows", "_until", "booked", "rules", "spelled", "wire")

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._rows = [_budget_row(budget) for budget in rules.budgets]
        self.spelled = msgspec.msgpack.encode((self._rows, [_limit_row(limit) for limit in rules.limits]))
        self.wire: Encoded = encoded((self.spelled,))
        self._buckets: tuple[tuple[str, int], ...] = ()
        self._from = self._until = 0.0
        self.booked: Sequence[tuple[str, int]] = ()

    def buckets(self, now_s: int) -> Sequence[tuple[str, int]]:
        """Each budget's id and the bucket that is booked in at `now_s`."""
        if not self._from <= now_s < self._until:
            self._buckets = tuple((row[0], _bucket(row, now_s)) for row in self._rows)
            self._from = now_s
            self._until = min((bucket_ends(budget.window, now_s) for budget in self.rules.budgets), default=now_s)
        return self._buckets

    def forgettable(self, now_s: int) -> Sequence[tuple[str, int]]:
        """Each rolling budget's id and the first bucket that is still of use."""
        return [
            (row[0], bucket - row[5])
            for row, (_, bucket) in zip(self._rows, self.buckets(now_s), strict=True)
            if row[5]
        ]


def buckets_of(spelled: bytes, at_s: int) -> list[tuple[str, int]]:
    """Of rules as a script has kept them: each budget's id and its bucket at `at_s`."""
    rows, _ = msgspec.msgpack.decode(spelled, type=_Spelled)
    return [(row[0], _bucket(row, at_s)) for row in rows]


def counted_buckets(spelled: bytes, at_s: int, now_s: int) -> list[tuple[str, int]]:
    """Those of `buckets_of` that count at `now_s`."""
    rows, _ = msgspec.msgpack.decode(spelled, type=_Spelled)
    buckets = [(row, _bucket(row, at_s)) for row in rows]
    return [(row[0], bucket) for row, bucket in buckets if bucket >= _bucket(row, now_s) - row[5]]


def _budget_row(budget: Budget) -> _BudgetRow:
    window = budget.window
    high, low = divmod(budget.limit_nanousd, _NANO)
    length = offset = 0
    if window.period is Period.MONTH and window.kind is WindowKind.CALENDAR:
        length = _MONTH
    elif window.kind is not WindowKind.TOTAL:
        offset = bucket_of(window, 0)
        length = int(bucket_ends(window, 0)) - offset
    return budget.id, high, low, length, offset, bucket_of(window, 0) - first_bucket(window, 0), int(budget.hard)


def _limit_row(limit: RateLimit) -> _LimitRow:
    bounds = (limit.requests_per_minute, limit.tokens_per_minute, limit.concurrent_requests)
    requests, tokens, concurrent = (_UNBOUNDED if bound is None else bound for bound in bounds)
    return limit.id, requests, tokens, concurrent


def _bucket(row: _BudgetRow, at_s: int) -> int:
    length, offset = row[3], row[4]
    if length == _MONTH:
        return bucket_of(_MONTHLY, at_s)
    return (at_s - offset) // length * length + offset if length else 0


def granted(reply: Sequence[int], rules: Rules) -> Granted:
    """What `admit.lua` says where it grants."""
    _, requests_place, requests_left, requests_us, tokens_place, tokens_left, tokens_us = reply[:7]
    requests = tokens = None
    if requests_place:
        requests = Quota(rules.limits[requests_place - 1].requests_per_minute or 0, requests_left, requests_us / 1e6)
    if tokens_place:
        tokens = Quota(rules.limits[tokens_place - 1].tokens_per_minute or 0, tokens_left, tokens_us / 1e6)
    return Granted(requests, tokens, tuple([rules.budgets[place - 1].id for place in reply[7:]]))


def refused(reply: Sequence[int], rules: Rules) -> Refused:
    """What `admit.lua` says where it refuses."""
    _, kind, place, wait_us, free, requests_left, requests_us, tokens_left, tokens_us, now = reply
    if kind == 1:
        budget = rules.budgets[place - 1]
        end = resets_at(budget.window, now)
        return Refused(Kind.BUDGET, budget.id, free, end - now if end is not None else None)
    limit = rules.limits[place - 1]
    return Refused(
        _KINDS[kind],
        limit.id,
        0,
        wait_us / 1e6 if wait_us >= 0 else None,
        _quota(limit.requests_per_minute, requests_left, requests_us),
        _quota(limit.tokens_per_minute, tokens_left, tokens_us),
    )


def _quota(per_minute: int | None, left: int, reset_us: int) -> Quota | None:
    return None if per_minute is None else Quota(per_minute, left, reset_us / 1e6)
