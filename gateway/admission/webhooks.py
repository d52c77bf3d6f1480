"""Tells an operator's own URL that a soft budget is exceeded: beside requests, at most once a budget and window.

Knows no HTTP: which addresses may be called, and for how long, is the injected `post`'s business.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Final

import msgspec
import stamina

from gateway.admission.gauges import Level
from gateway.admission.rules import Budget, Window, WindowKind
from gateway.admission.windows import first_bucket, resets_at
from gateway.errors import UpstreamError

log = logging.getLogger(__name__)

Post = Callable[[str, bytes], Awaitable[int]]
Levels = Callable[[Sequence[Budget]], Awaitable[Sequence[Level]]]
MOST_REMEMBERED: Final = 4096
_AGAIN: Final = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long (seconds) a delivery is tried, how many may wait; after a failed one there is a pause."""

    attempts: int = 6
    try_s: float = 10.0
    timeout_s: float = 300.0
    wait_initial_s: float = 1.0
    wait_max_s: float = 60.0
    pause_s: float = 300.0
    at_once: int = 8
    waiting: int = 128


class _NotTaken(OSError):
    """The receiver answered that it could not take the message now."""


@dataclass(frozen=True, slots=True)
class _Span:
    """A budget's present window in Unix seconds; None: it has no such end. `quiet_until`: when to tell again."""

    start: float | None
    end: float | None
    quiet_until: float
    name: str


class Webhooks:
    """Implements `Alerts`. `post(url, body)` answers the status, raises `OSError` or `UpstreamError` without one."""

    def __init__(
        self, post: Post, levels: Levels, patience: Patience | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self._post = post
        self._levels = levels
        self._patience = patience or Patience()
        self._now = now
        self._slots = asyncio.Semaphore(self._patience.at_once)
        self._quiet_until: dict[tuple[str, int], float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sent = self._failed = self._dropped = 0

    def exceeded(self, budget: Budget) -> None:
        """Tell the budget's URL unless it was told in this window; never waits, never raises."""
        key = (budget.id, budget.limit_nanousd)
        if budget.webhook_url is None or self._quiet_until.get(key, -inf) > self._now():
            return
        if len(self._tasks) >= self._patience.waiting:
            self._dropped += 1
            return
        self._be_quiet(key, inf)
        task = asyncio.create_task(self._tell(budget, budget.webhook_url, key), name="budget-webhook")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def stats(self) -> Mapping[str, float]:
        """Counts since the start, and how many deliveries are under way."""
        return {
            "webhooks_sent": self._sent,
            "webhooks_failed": self._failed,
            "webhooks_dropped": self._dropped,
            "webhooks_waiting": len(self._tasks),
        }

    async def close(self, timeout_s: float) -> None:
        """Wait for deliveries under way, at most `timeout_s` seconds; give up the others."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _tell(self, budget: Budget, url: str, key: tuple[str, int]) -> None:
        patience = self._patience
        quiet_until = self._now() + patience.pause_s
        try:
            async with self._slots:
                async for attempt in stamina.retry_context(
                    on=(OSError, UpstreamError),
                    attempts=patience.attempts,
                    timeout=patience.timeout_s,
                    wait_initial=patience.wait_initial_s,
                    wait_max=patience.wait_max_s,
                    wait_jitter=patience.wait_initial_s,
                ):
                    with attempt:
                        quiet_until = await self._deliver(budget, url)
            self._sent += 1
        except (OSError, UpstreamError) as error:
            self._failed += 1
            quiet_until = self._now() + patience.pause_s
            log.warning("webhook of budget %s was not delivered: %s", budget.id, str(error) or type(error).__name__)
        finally:
            self._be_quiet(key, quiet_until)

    async def _deliver(self, budget: Budget, url: str) -> float:
        """One try; the Unix time until which there is no need to tell again."""
        (level,) = await self._levels([budget])
        now = self._now()
        span = _span(budget.window, now)
        async with asyncio.timeout(self._patience.try_s):
            status = await self._post(url, _body(level, span, now))
        if status >= 500 or status in _AGAIN:
            raise _NotTaken(f"the receiver answered {status}")
        if status >= 300:
            log.warning("webhook of budget %s was refused with status %d", budget.id, status)
        return span.quiet_until

    def _be_quiet(self, key: tuple[str, int], until: float) -> None:
        self._quiet_until.pop(key, None)
        if len(self._quiet_until) >= MOST_REMEMBERED:
            del self._quiet_until[next(iter(self._quiet_until))]
        self._quiet_until[key] = until

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        fault = None if task.cancelled() else task.exception()
        if fault is not None:
            self._failed += 1
            log.error("a webhook failed inside the gateway", exc_info=fault)


def _span(window: Window, now: float) -> _Span:
    until = resets_at(window, now)
    if until is None:
        return _Span(None, None, inf, "total")
    start = first_bucket(window, now)
    # A rolling window neither begins nor ends: one message for each stretch of its length is enough.
    rolling = window.kind is WindowKind.ROLLING and window.seconds
    return _Span(start, now if rolling else until, until, str(int(now // rolling) if rolling else start))


def _body(level: Level, span: _Span, now: float) -> bytes:
    """The message; its key is the same from all workers and at every try, so that a receiver can drop doubles."""
    budget = level.budget
    return msgspec.json.encode(
        {
            "type": "budget.exceeded",
            "idempotency_key": f"{budget.id}:{budget.limit_nanousd}:{span.name}",
            "at": _iso(now),
            "budget_id": budget.id,
            "scope": budget.scope.value,
            "scope_id": budget.scope_id,
            "hard": budget.hard,
            "limit_usd": budget.limit_nanousd / 1e9,
            "spent_usd": level.spent_nanousd / 1e9,
            "reserved_usd": level.reserved_nanousd / 1e9,
            "window": {"kind": budget.window.kind.value, "start": _iso(span.start), "end": _iso(span.end)},
        }
    )


def _iso(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
