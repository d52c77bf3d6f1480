"""From the worker thread to the event loop: one wake-up of a loop a step, however many sequences it carries."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress

from local_runtime.base import Delta, GenerationError

Outcome = Delta | GenerationError


class Channel:
    """One generation's deltas on their way; touched by its event loop's thread only (but for `loop`)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._items: deque[Outcome] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def put(self, outcome: Outcome) -> None:
        """Hand over one outcome; wakes the reader."""
        self._items.append(outcome)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> Outcome:
        """The next outcome in order."""
        while not self._items:
            self._waiter = self.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._items.popleft()


def deliver(outcomes: Iterable[tuple[Channel, Outcome]]) -> None:
    """Put outcomes into their channels; safe to call from any thread, waits for nothing.

    Outcomes for a loop that is closed are dropped: nobody is left to read them.
    """
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Channel, Outcome]]] = {}
    for channel, outcome in outcomes:
        by_loop.setdefault(channel.loop, []).append((channel, outcome))
    for loop, batch in by_loop.items():
        with suppress(RuntimeError):  # what a closed loop raises
            loop.call_soon_threadsafe(_put_all, batch)


def _put_all(batch: list[tuple[Channel, Outcome]]) -> None:
    for channel, outcome in batch:
        channel.put(outcome)


class Generation(AsyncIterator[Delta]):
    """What the caller iterates. Leaving it early (aclose, cancellation, garbage) ends the work within one step."""

    def __init__(self, channel: Channel, cancel: Callable[[], None]) -> None:
        self._channel = channel
        self._cancel = cancel
        self._ended = False

    def __aiter__(self) -> Generation:
        return self

    async def __anext__(self) -> Delta:
        if self._ended:
            raise StopAsyncIteration
        try:
            outcome = await self._channel.get()
        except asyncio.CancelledError:
            await self.aclose()
            raise
        if isinstance(outcome, GenerationError):
            self._ended = True
            raise outcome
        self._ended = outcome.finish_reason is not None
        return outcome

    async def aclose(self) -> None:
        """Stop generating; harmless when it has ended."""
        if not self._ended:
            self._ended = True
            self._cancel()

    def __del__(self) -> None:
        if not self._ended:
            self._cancel()
