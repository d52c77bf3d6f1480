"""Waiting for what comes about beside a test, never for ever: a bound is only for a failure."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable

WITHIN_S = 20.0


async def eventually(holds: Callable[[], object], within_s: float = WITHIN_S, every_s: float = 0.002) -> None:
    """Until `holds()`, or what it awaits, is true; `TimeoutError` where it never is."""
    async with asyncio.timeout(within_s):
        while not (await found if inspect.isawaitable(found := holds()) else found):
            await asyncio.sleep(every_s)


def comes_true(holds: Callable[[], object], within_s: float = WITHIN_S, every_s: float = 0.02) -> bool:
    """The same for a test without an event loop: whether it was true in time."""
    ends = time.monotonic() + within_s
    while not (found := bool(holds())) and time.monotonic() < ends:
        time.sleep(every_s)
    return found
