"""Wakes the load generator at planned times to within tens of microseconds, and plans them.

Event loops round their timers to milliseconds, which would drown a proxy's half millisecond; a timerfd does not.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from typing import Self

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class _Itimerspec(ctypes.Structure):
    _fields_ = [("interval", _Timespec), ("value", _Timespec)]


def schedule(rate_per_s: float, seconds: float) -> list[float]:
    """Offsets in seconds at which a constant-rate load sends: 0, 1/rate, 2/rate ... all below `seconds`."""
    if rate_per_s <= 0:
        raise ValueError("the rate must be above 0")
    offsets = [number / rate_per_s for number in range(int(rate_per_s * seconds) + 1)]
    return [offset for offset in offsets if offset < seconds]


class Alarm:
    """A precise one-shot timer on time.monotonic(), used as a context manager; one waiter at a time."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._fd)

    async def wait_until(self, at_s: float) -> None:
        """Return at `at_s` (time.monotonic() seconds), at once if it has passed."""
        if at_s <= time.monotonic():
            return
        loop = asyncio.get_running_loop()
        rung: asyncio.Future[None] = loop.create_future()
        self._arm(at_s)
        loop.add_reader(self._fd, _ring, self._fd, rung)
        try:
            await rung
        finally:
            loop.remove_reader(self._fd)

    def _arm(self, at_s: float) -> None:
        nanoseconds = int(at_s * 1e9)
        value = _Itimerspec(_Timespec(0, 0), _Timespec(nanoseconds // 10**9, nanoseconds % 10**9))
        if self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(value), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")


def _ring(fd: int, rung: asyncio.Future[None]) -> None:
    try:
        os.read(fd, 8)
    except BlockingIOError:
        return
    if not rung.done():
        rung.set_result(None)
