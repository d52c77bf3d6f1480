"""Leaving without anybody noticing: a signal first turns readiness off and only later stops the server.

Between the two every answer says `Connection: close`: clients and proxies open their next connection elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)

Handler = Callable[[int, FrameType | None], Any]
# What uvicorn runs a request in: its tasks are known to nobody else.
_REQUEST = "RequestResponseCycle.run_asgi"


class Leaving:
    """Stands before the server's own handlers of SIGTERM and SIGINT.

    The same signal a second time means at once: what still runs is cut off, then settled and logged as ever. (Both
    signals once are no hurry: Ctrl-C reaches a whole group of processes, and the supervisor then ends its workers.)
    """

    def __init__(self, lame_duck_s: float) -> None:
        self._lame_duck_s = lame_duck_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handlers: dict[int, Handler] = {}
        self._seen: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.begun = False

    def watch(self) -> None:
        """Take over from the handlers that are there; nothing outside of the main thread, where none can be."""
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            handler = signal.getsignal(number)
            if not callable(handler):
                continue
            with contextlib.suppress(ValueError, RuntimeError):  # not the main thread
                self._loop.add_signal_handler(number, self._asked, number)
                self._handlers[number] = handler

    def release(self) -> None:
        """Give the signals back, once everything is in order."""
        handlers, self._handlers = self._handlers, {}
        for number, handler in handlers.items():
            if self._loop is not None:
                self._loop.remove_signal_handler(number)
            signal.signal(number, handler)

    def _asked(self, number: int) -> None:
        again = number in self._seen
        self._seen.add(number)
        if self.begun:
            if again:
                self._hurry(number)
            return
        self.begun = True
        if self._loop is not None and self._lame_duck_s > 0:
            log.info("leaving in %g s", self._lame_duck_s)
            self._timer = self._loop.call_later(self._lame_duck_s, self._pass_on, number)
        else:
            self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        """Once only: the server takes a second one for leave to skip what settles and drains."""
        self._timer = None
        handler = self._handlers.get(number)
        if handler is not None:
            handler(number, None)

    def _hurry(self, number: int) -> None:
        log.warning("told a second time to leave: requests that still run are cut off")
        if self._timer is not None:
            self._timer.cancel()
            self._pass_on(number)
        for task in asyncio.all_tasks(self._loop):
            if getattr(task.get_coro(), "__qualname__", "") == _REQUEST:
                task.cancel()
