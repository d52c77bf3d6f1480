"""One lean connection to Redis for the hot path: pipelined, bounded in time, with a breaker and its own way back.

Knows no key and no script of its own. Nothing it says carries the password.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from dataclasses import dataclass, replace
from hashlib import sha1
from typing import Any, Final

from gateway.redis_url import parse_redis_url
from gateway.redis_wire import (
    Argument,
    Encoded,
    Pending,
    RedisRefused,
    RedisUnavailable,
    Wire,
    dial,
    encoded,
    packed,
    reason_of,
)

__all__ = ["Argument", "Encoded", "LinkState", "RedisLink", "RedisRefused", "RedisUnavailable", "Script", "encoded"]

CONNECT_S: Final = 1.0
FIRST_PAUSE_S: Final = 0.1
LAST_PAUSE_S: Final = 2.0
PATIENCE_S: Final = 3.0

_log: Final = logging.getLogger("fingerpost.redis")
_UNSTARTED: Final = "not started"
# A reply that is late may lie unread in our own socket, when it was this process that was busy: before the connection
# is given up the event loop gets this part of the time-out to read.
_LAST_LOOK: Final = 0.1


@dataclass(frozen=True, slots=True)
class LinkState:
    """Whether Redis answers, since when (Unix seconds), and what was wrong last."""

    up: bool
    since: float
    reason: str = ""


class RedisLink:
    """Commands of one turn of the event loop leave in one write; replies come back in order.

    A call takes `timeout_s` at most once it has left. When one is late the connection is dropped, whatever waits fails,
    and from then on calls fail at once until a probe in the background finds that Redis answers again. When Redis
    closes the connection it is opened anew at once; calls made meanwhile wait for it, no longer than `timeout_s`.
    `generation` counts connections: commands that were left unread in an older one may still be run later.
    One link belongs to one event loop. Raises `RedisUrlError` for a wrong URL.
    """

    def __init__(self, url: str, timeout_s: float = 0.06) -> None:
        self.address = parse_redis_url(url)
        self._timeout_s = timeout_s
        self._state = LinkState(False, time.time(), _UNSTARTED)
        self._wire: Wire | None = None
        self._pending: Pending = deque()
        self._out: list[bytes] = []
        self._flushing = False
        self._open = False
        self._timer: asyncio.TimerHandle | None = None
        self._suspect: asyncio.Future[Any] | None = None
        self._task: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        self._up_since_s = 0.0
        self._pause_s = FIRST_PAUSE_S
        self.generation = 0

    @classmethod
    def patient(cls, url: str) -> RedisLink:
        """A link for calls that wait at Redis until something happens: it may be silent for `PATIENCE_S`."""
        return cls(url, PATIENCE_S)

    @property
    def state(self) -> LinkState:
        """How things stand; costs nothing."""
        return self._state

    async def start(self) -> None:
        """Connect; returns after the first attempt, also when that fails (the link goes on trying). May be repeated."""
        if self._state.reason != _UNSTARTED:
            return
        self._loop = asyncio.get_running_loop()
        try:
            self._use(await self._connect())
        except (OSError, UnicodeError) as error:
            self._go_away(reason_of(error))

    async def close(self) -> None:
        """Drop the connection; what waits fails, and so do later calls."""
        self._open = False
        self._drop("closed")
        self._state = LinkState(False, time.time(), "closed")
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def until_up(self) -> None:
        """Wait until Redis answers."""
        await self._up.wait()

    async def call(self, *arguments: Argument) -> Any:
        """Run a command; raises `RedisUnavailable`, and `RedisRefused` where Redis answers with an error.

        Replies are what RESP2 has: bytes, int, None, lists of these.
        """
        return await self.send(packed(arguments))

    def send(self, command: bytes) -> asyncio.Future[Any]:
        """Send an encoded command; the future holds the reply, or `RedisUnavailable`, which is also raised at once
        where Redis is known to be away."""
        if not self._open:
            error = RedisUnavailable(f"Redis is away: {self._state.reason}")
            error.asked = False
            raise error
        loop = self._loop
        future: asyncio.Future[Any] = loop.create_future()
        due = loop.time() + self._timeout_s * (1 - _LAST_LOOK)
        self._pending.append((due, future))
        self._out.append(command)
        if not self._flushing:
            self._flushing = True
            loop.call_soon(self._flush)
        if self._timer is None:
            self._timer = loop.call_at(due, self._look)
        return future

    def script(self, lua: str) -> Script:
        """A Lua script to be run on this link."""
        return Script(self, lua)

    def _flush(self) -> None:
        self._flushing = False
        if self._wire is not None and self._out:
            # Redis is not late for what our own loop was too busy to send.
            due = self._loop.time() + self._timeout_s * (1 - _LAST_LOOK)
            for place in range(-len(self._out), 0):
                self._pending[place] = (due, self._pending[place][1])
            self._wire.write(self._out)
            self._out.clear()

    def _look(self) -> None:
        """See whether the oldest call is late; twice before it counts."""
        self._timer = None
        if not self._pending:
            return
        due, oldest = self._pending[0]
        if due > self._loop.time():
            self._timer = self._loop.call_at(due, self._look)
        elif oldest is not self._suspect:
            self._suspect = oldest
            self._timer = self._loop.call_later(self._timeout_s * _LAST_LOOK, self._look)
        else:
            self._go_away(f"no answer within {self._timeout_s * 1000:.0f} ms")

    def _use(self, wire: Wire) -> None:
        """Calls go over this connection from now on, those first that wait for it."""
        wire.pending.extend(self._pending)
        self._pending, self._wire, self._open = wire.pending, wire, True
        self.generation += 1
        wire.on_lost = self._lost
        wire.on_away = self._go_away
        self._up_since_s = self._loop.time()
        self._change(LinkState(True, time.time()))
        self._up.set()
        if self._out:
            wire.write(self._out)
            self._out.clear()

    def _lost(self, reason: str) -> None:
        """Redis closed the connection: where it served us for a while it may be back in a moment, so calls wait."""
        if self._loop.time() - self._up_since_s < LAST_PAUSE_S:
            self._go_away(reason)
        else:
            self._drop(reason)
            self._open = True
            self._come_back(0.0)

    def _go_away(self, reason: str, come_back: bool = True) -> None:
        """Redis is of no use: fail fast from now on."""
        self._open = False
        self._drop(reason)
        self._change(LinkState(False, time.time(), reason))
        if come_back:
            self._come_back(self._next_pause_s())

    def _drop(self, reason: str) -> None:
        self._up.clear()
        wire, self._wire, self._suspect = self._wire, None, None
        pending, self._pending = self._pending, deque()
        self._out.clear()
        if wire is not None:
            wire.abandon()
        for _, future in pending:
            if not future.done():
                future.set_exception(RedisUnavailable(f"Redis is away: {reason}"))

    def _come_back(self, pause_s: float) -> None:
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._reconnect(pause_s), name="redis-link")

    async def _reconnect(self, pause_s: float) -> None:
        while True:
            await asyncio.sleep(pause_s)
            try:
                wire = await self._connect()
            except (OSError, UnicodeError) as error:
                self._go_away(reason_of(error), come_back=False)
                pause_s = self._next_pause_s()
            else:
                self._task = None
                return self._use(wire)

    def _next_pause_s(self) -> float:
        """Doubles from try to try, unless Redis was up for a while; workers spread out by chance."""
        if self._up_since_s and self._loop.time() - self._up_since_s > LAST_PAUSE_S:
            self._pause_s = FIRST_PAUSE_S
        self._up_since_s = 0.0
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, LAST_PAUSE_S)
        return pause_s * random.uniform(0.75, 1.0)

    async def _connect(self) -> Wire:
        """A connection that has just answered; raises `OSError`. Leaves none open when it fails or is cancelled."""
        wire = Wire()
        try:
            async with asyncio.timeout(CONNECT_S):
                await dial(self._loop, wire, self.address)
            async with asyncio.timeout(self._timeout_s):
                await wire.greet(self.address)
        except (OSError, UnicodeError, asyncio.CancelledError):
            wire.abandon()
            raise
        return wire

    def _change(self, state: LinkState) -> None:
        old, self._state = self._state, state
        first = old.reason == _UNSTARTED
        if state.up and not first:
            _log.warning("redis: %s answers", self.address)
        elif not state.up and (old.up or first):
            _log.warning("redis: %s is away: %s", self.address, state.reason)
        elif not state.up:
            self._state = replace(state, since=old.since)


class Script:
    """A Lua script by its digest; a server that does not know it is taught."""

    def __init__(self, link: RedisLink, lua: str) -> None:
        self._link = link
        self._lua = lua
        digest = sha1(lua.encode(), usedforsecurity=False).hexdigest()
        self._head = encoded(("EVALSHA", digest))

    async def run(self, *parts: Encoded) -> Any:
        """Run it; the parts in a row are the number of keys, the keys, the arguments. Raises as `RedisLink.call`."""
        head = self._head
        count, wire = head.count, head.wire
        for part in parts:
            count += part.count
            wire += part.wire
        command = b"*%d\r\n%b" % (count, wire)
        try:
            return await self._link.send(command)
        except RedisRefused as refused:
            if refused.code != "NOSCRIPT":
                raise
        await self._link.call("SCRIPT", "LOAD", self._lua)
        return await self._link.send(command)
