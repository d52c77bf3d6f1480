"""Lets workers share their breakers: what one has found out the others need not. Knows no call and no endpoint.

What is shared is how long a pause still lasts, by the store's clock; workers' clocks are never compared.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from gateway.dispatch.health import Health

POLL_S = 1.0
# What is as good as over is not worth adopting.
LEAST_PAUSE_S = 0.05

log = logging.getLogger(__name__)

# KEYS: the hash. ARGV: endpoint, milliseconds from now on (0: it is well). The hash goes when nobody writes any more.
_PUBLISH = """
if tonumber(ARGV[2]) > 0 then
  local now = redis.call('TIME')
  local until_ms = now[1] * 1000 + math.floor(now[2] / 1000) + tonumber(ARGV[2])
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', until_ms))
  redis.call('PEXPIRE', KEYS[1], 600000)
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 1
"""
# Returns endpoint, milliseconds left, endpoint, ...; what is over is removed.
_READ = """
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local rows = redis.call('HGETALL', KEYS[1])
local left = {}
for i = 1, #rows, 2 do
  local ms = tonumber(rows[i + 1]) - now_ms
  if ms > 0 then
    left[#left + 1] = rows[i]
    left[#left + 1] = string.format('%.0f', ms)
  else
    redis.call('HDEL', KEYS[1], rows[i])
  end
end
return left
"""


class SharedState(Protocol):
    """Where workers tell each other which endpoints are paused. Raises `OSError` while the store is away."""

    async def publish(self, endpoint_id: str, pause_s: float) -> None:
        """An endpoint is paused for so many seconds from now on; 0: no more."""

    async def read(self) -> Mapping[str, float]:
        """Every paused endpoint with the seconds that its pause still lasts."""


class Link(Protocol):
    """What is needed of a connection to Redis; replies are as RESP2 has them."""

    async def call(self, *arguments: bytes | str | int | float) -> Any: ...


class RedisSharedState:
    """One hash, endpoint to end of pause in milliseconds of Redis' own clock."""

    def __init__(self, link: Link, key: str = "fingerpost:paused") -> None:
        self._link = link
        self._key = key

    async def publish(self, endpoint_id: str, pause_s: float) -> None:
        await self._link.call("EVAL", _PUBLISH, 1, self._key, endpoint_id, round(pause_s * 1000))

    async def read(self) -> Mapping[str, float]:
        rows = await self._link.call("EVAL", _READ, 1, self._key)
        return {rows[at].decode(): int(rows[at + 1]) / 1000 for at in range(0, len(rows), 2)}


class SharedHealth:
    """Keeps one process' health and the shared state in step, in the background: tells at once, asks every second.

    While the store is away each worker goes by what it sees itself; what could not be told is told later, if it still
    holds then.
    """

    def __init__(self, health: Health, state: SharedState, now: Callable[[], float], poll_s: float = POLL_S) -> None:
        self._health = health
        self._state = state
        self._now = now
        self._poll_s = poll_s
        self._untold: dict[str, float] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._away = False

    async def start(self) -> None:
        """Begin; returns at once."""
        self._health.told = self._note
        self._task = asyncio.get_running_loop().create_task(self._run(), name="shared-health")

    async def close(self) -> None:
        """End."""
        self._health.told = None
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    def _note(self, endpoint_id: str, pause_s: float) -> None:
        self._untold[endpoint_id] = self._now() + pause_s if pause_s else 0.0
        self._news.set()

    async def _run(self) -> None:
        while True:
            try:
                await self._tell()
                await self._listen()
                self._away = False
            except OSError as error:
                if not self._away:
                    log.warning("endpoints' health is not shared between workers for now: %s", error)
                self._away = True
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s):
                    await self._news.wait()
            self._news.clear()

    async def _tell(self) -> None:
        while self._untold:
            endpoint_id, until = next(iter(self._untold.items()))
            left_s = until - self._now()
            if until == 0.0 or left_s > 0:
                await self._state.publish(endpoint_id, max(left_s, 0.0))
            if self._untold.get(endpoint_id) == until:
                del self._untold[endpoint_id]

    async def _listen(self) -> None:
        """Adopt what others say, but for what we know better and have not told yet."""
        paused = await self._state.read()
        self._health.adopt(
            {one: left for one, left in paused.items() if left >= LEAST_PAUSE_S and one not in self._untold}
        )
