"""When an endpoint is asked again after a fault, how long after, and how often in all: an outage is not amplified."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import stamina
from stamina.instrumentation import set_on_retry_hooks

from gateway.errors import UpstreamError, UpstreamTimeout

SHARE_OF_CALLS = 0.1
FLOOR = 10.0
FLOOR_PER_S = 1.0
MOST_SAVED = 100.0

BASE_S = 0.1
LONGEST_BACKOFF_S = 2.0
# Where another model could answer at once nobody waits longer than this for the chosen one.
LONGEST_WAIT_BESIDE_ANOTHER_S = 1.0
# Those who were told the same Retry-After do not come back in the same moment.
SPREAD = 0.1

_Result = TypeVar("_Result")


class RetryBudget:
    """Further calls that this process may make beside first ones: a tenth of what it was asked lately, and a few.

    A token bucket (as in Finagle): each request puts a tenth of a token in, each further call takes one out. It holds
    at most 100; a floor of 10 fills by itself, one a second, for processes that are asked rarely.
    """

    __slots__ = ("_filled_at", "_now", "_tokens")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._tokens = FLOOR
        self._filled_at = now()

    def earn(self) -> None:
        """A request has come."""
        self._tokens = min(self._tokens + SHARE_OF_CALLS, MOST_SAVED)

    def take(self) -> bool:
        """Whether one more call may be made."""
        now = self._now()
        if self._tokens < FLOOR:
            self._tokens = min(self._tokens + FLOOR_PER_S * (now - self._filled_at), FLOOR)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(slots=True)
class Circumstances:
    """One failing call: how often more, how long all may still take, how long one endpoint may make us wait."""

    retries: int
    left_s: Callable[[], float]
    paused_s: Callable[[], float]
    alternative: bool


class Retries:
    """Asks again after a pause; entered only once a call has failed, so that calls that succeed pay nothing."""

    def __init__(self, budget: RetryBudget, rng: random.Random) -> None:
        self.budget = budget
        self._rng = rng
        # Our own record tells every try; the library's hooks would log each, and count it in a registry of their own.
        set_on_retry_hooks(())

    async def again(
        self, failure: UpstreamError, ask: Callable[[], Awaitable[_Result]], circumstances: Circumstances
    ) -> _Result:
        """What `ask` says at last; raises the last failure, at once where another try can't help or has no time."""
        plan = _Plan(circumstances, self.budget, self._rng)
        async for attempt in stamina.retry_context(plan.wait_s, attempts=None, timeout=None):
            with attempt:
                if attempt.num == 1:
                    raise failure
                return await ask()
        raise failure


class _Plan:
    """The pauses of one call."""

    def __init__(self, circumstances: Circumstances, budget: RetryBudget, rng: random.Random) -> None:
        self._case = circumstances
        self._budget = budget
        self._rng = rng
        self._done = 0

    def wait_s(self, error: Exception) -> float | bool:
        """Seconds until the next try, False where there is none: stamina's backoff hook."""
        if self._done >= self._case.retries or not may_pass(error):
            return False
        asked = error.retry_after_s if isinstance(error, UpstreamError) else None
        wait = self._backoff() if asked is None else asked * (1 + SPREAD * self._rng.random()) + BASE_S / 10
        if self._case.paused_s() > wait or wait > self._longest() or not self._budget.take():
            return False
        self._done += 1
        return wait

    def _backoff(self) -> float:
        """Exponential with full jitter (Brooker, Exponential Backoff and Jitter, 2015)."""
        return self._rng.uniform(0.0, min(BASE_S * 2**self._done, LONGEST_BACKOFF_S))

    def _longest(self) -> float:
        """Half of the time that is left, since an answer has to come after the wait."""
        half = self._case.left_s() / 2
        return min(half, LONGEST_WAIT_BESIDE_ANOTHER_S) if self._case.alternative else half


def may_pass(error: BaseException) -> bool:
    """Whether the same endpoint may do better soon. One that was silent has had its time, and may have been paid."""
    return isinstance(error, UpstreamError) and error.retry_may_help and not isinstance(error, UpstreamTimeout)
