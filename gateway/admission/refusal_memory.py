"""Remembers which rate limits have just refused, so that a flood of refused calls costs neither store nor embedding.

Only what is certain is remembered for long: room for requests comes back with time alone, but other calls' ends give
tokens and places back, which this process can't see where they end in another one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from gateway.admission.gauges import Kind, Refused
from gateway.admission.refusals import rate_limited
from gateway.admission.rules import RateLimit
from gateway.errors import RateLimited

MAX_KEPT: Final = 4096
# No estimate is smaller: one message of one word and one token of output.
LEAST_TOKENS: Final = 24
LONGEST_S: Final = {Kind.REQUESTS: 60.0, Kind.TOKENS: 0.25, Kind.CONCURRENT: 0.005}
# A limit's share in this process says little about the limit itself.
LONGEST_ON_SPARE_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class _Remembered:
    """`least_until`: until when not even the smallest call has room; `until`: one of `tokens` or more."""

    limit: RateLimit
    refused: Refused
    at: float
    least_until: float
    until: float
    tokens: int


class RefusalMemory:
    """By limit, so that a team's refusal spares the look-ups of all its keys; the oldest of `most` are forgotten."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = MAX_KEPT) -> None:
        self._clock = clock
        self._most = most
        self._kept: dict[str, _Remembered] = {}

    def remember(self, limit: RateLimit, refused: Refused, tokens: int, spare: bool = False) -> None:
        """A call of `tokens` was refused just now."""
        longest = LONGEST_ON_SPARE_S if spare else LONGEST_S.get(refused.kind, 0.0)
        wait_s = min(longest if refused.retry_after_s is None else refused.retry_after_s, longest)
        if wait_s <= 0:
            return
        now = self._clock()
        least_s = min(wait_s, _least_wait_s(limit, refused)) if refused.kind is Kind.TOKENS else wait_s
        self._kept.pop(limit.id, None)
        if len(self._kept) >= self._most:
            del self._kept[next(iter(self._kept))]
        self._kept[limit.id] = _Remembered(
            limit, refused, now, now + least_s, now + wait_s, tokens if refused.kind is Kind.TOKENS else 0
        )

    def any_call(self, limits: Iterable[RateLimit]) -> RateLimited | None:
        """The error where one of the limits can't have room for any call yet."""
        if self._kept:
            for limit in limits:
                kept = self._found(limit)
                if kept is not None:
                    now = self._clock()
                    if now < kept.least_until:
                        return _error(kept, kept.tokens, now)
        return None

    def one_call(self, limits: Iterable[RateLimit], tokens: int) -> tuple[RateLimit, RateLimited] | None:
        """The limit that can't have room for a call of `tokens` yet, with the error that says so."""
        if self._kept:
            for limit in limits:
                kept = self._found(limit)
                if kept is not None and tokens >= kept.tokens:
                    now = self._clock()
                    if now < kept.until:
                        return limit, _error(kept, tokens, now)
        return None

    def released(self, limits: Iterable[RateLimit]) -> None:
        """A call under these limits has ended, so there may be room for tokens and concurrent requests again."""
        if self._kept:
            for limit in limits:
                kept = self._kept.get(limit.id)
                if kept is not None and kept.refused.kind is not Kind.REQUESTS:
                    del self._kept[limit.id]

    def _found(self, limit: RateLimit) -> _Remembered | None:
        """What is remembered of a limit; nothing once it is over or an admin has changed the limit."""
        kept = self._kept.get(limit.id)
        if kept is None:
            return None
        if (kept.limit is limit or kept.limit == limit) and self._clock() < kept.until:
            return kept
        del self._kept[limit.id]
        return None


def _error(kept: _Remembered, tokens: int, now: float) -> RateLimited:
    return rate_limited(kept.limit, kept.refused, tokens, now - kept.at)


def _least_wait_s(limit: RateLimit, refused: Refused) -> float:
    """Seconds until a minute's tokens, which come back evenly, suffice for the smallest call."""
    remaining = refused.tokens.remaining if refused.tokens is not None else LEAST_TOKENS
    missing = max(min(LEAST_TOKENS, limit.tokens_per_minute or 0) - remaining, 0)
    return missing * 60.0 / limit.tokens_per_minute if limit.tokens_per_minute else 0.0
