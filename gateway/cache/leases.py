"""One call for requests that come at once to several workers: who has the lease in Redis asks, the others wait for it.

A lease is taken by the look for the answer itself and ended by its arrival, so that neither costs a round trip of its
own. Word of its end comes with the log of changes; it runs out where its worker dies. Where Redis is away each worker
asks for itself. Knows no request.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from itertools import count
from typing import Any, Final
from uuid import uuid4

from gateway.cache.base import StoreAway, Stored
from gateway.cache.flights import LONGEST_S
from gateway.cache.store_scripts import Scripts, answered, word_of
from gateway.redis_link import Encoded, encoded

# A worker that died is waited for so long; one that lives renews its leases well before.
LEASE_S: Final = 3.0
RENEWAL_S: Final = 1.0
_JITTER_S: Final = 0.03
_OURS, _NONE = 1, 0
Read = Callable[[str, Any, str], Awaitable[Stored | None]]
Name = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Taken:
    """Another worker asks; its lease runs out in `left_s` seconds unless it is renewed."""

    left_s: float


class Alone(Enum):
    """Why a request that has waited for another worker asks for itself."""

    EACH = auto()  # there will be nothing to share
    LATE = auto()


class HeldLease:
    """See `flights.Lease`. It is renewed for `longest_s()` seconds: so long others wait for who holds it."""

    __slots__ = ("_leases", "exact", "longest_s", "since_s", "tenant", "token")

    def __init__(self, leases: Leases, tenant: str, exact: str, token: bytes, since_s: float) -> None:
        self.longest_s: Callable[[], float] = lambda: LONGEST_S
        self._leases = leases
        self.tenant = tenant
        self.exact = exact
        self.token = token
        self.since_s = since_s

    def end(self, *, kept: bool, each: bool = False) -> None:
        """Nobody waits for that; one that was `kept` has ended in Redis already."""
        self._leases.ended(self, kept=kept, each=each)


class _News:
    """Word for one who waits."""

    __slots__ = ("each", "event")

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.each = False


Look = Stored | HeldLease | Taken | None


class Leases:
    """Those of one worker. `read` makes an answer of what a script has found."""

    def __init__(
        self,
        scripts: Scripts,
        keys: Callable[[str], Encoded],
        read: Read,
        *,
        lease_s: float = LEASE_S,
        renewal_s: float = RENEWAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scripts = scripts
        self._keys = keys
        self._read = read
        self._lease_s = lease_s
        self._renewal_s = renewal_s
        self._clock = clock
        self._worker = uuid4().hex[:16]
        self._numbers = count()
        self._held: set[HeldLease] = set()
        self._waiting: dict[Name, list[_News]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewals: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._held)

    def start(self) -> None:
        """Begin to renew what is held; may be repeated."""
        if self._renewals is None:
            self._renewals = asyncio.create_task(self._renewing(), name="cache-leases")

    async def close(self) -> None:
        """End that; what is held runs out, unless it was given back."""
        if self._renewals is not None:
            self._renewals.cancel()
            await asyncio.wait({self._renewals})
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def look(self, tenant: str, exact: str) -> Look:
        """The answer, or the lease to ask for it, or who has that; None: there is neither. Raises `StoreAway`."""
        found = await self._lead(tenant, exact, b"")
        if isinstance(found, list):
            stored = await self._read(tenant, found, exact)
            if stored is not None:
                return stored
            found = await self._lead(tenant, exact, b"1")
        return found if isinstance(found, HeldLease) else _taken(found)

    async def follow(self, tenant: str, exact: str, left_s: Callable[[], float]) -> Stored | HeldLease | Alone | None:
        """Wait for the worker that asks, as long as any seconds are left: its answer, or the lease in its place."""
        news = _News()
        waiting = self._waiting.setdefault((tenant, exact), [])
        waiting.append(news)
        try:
            while True:
                news.event.clear()
                found = await self.look(tenant, exact)
                if not isinstance(found, Taken):
                    return found
                longest_s = left_s()
                if longest_s <= 0:
                    return Alone.LATE
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(longest_s, found.left_s + random.uniform(0, _JITTER_S))):
                        await news.event.wait()
                if news.each:
                    return Alone.EACH
        finally:
            waiting.remove(news)
            if not waiting:
                self._waiting.pop((tenant, exact), None)

    def heard(self, tenant: str, exact: str, *, each: bool) -> None:
        """Of a lease's end, from the log of changes."""
        for news in self._waiting.get((tenant, exact), ()):
            news.each = news.each or each
            news.event.set()

    def unsure(self) -> None:
        """What was in the log may have been missed."""
        for waiting in self._waiting.values():
            for news in waiting:
                news.event.set()

    def ended(self, lease: HeldLease, *, kept: bool, each: bool) -> None:
        """See `HeldLease.end`."""
        self._held.discard(lease)
        if not kept:
            self._beside(self._give_back(lease.tenant, lease.exact, lease.token, each=each))

    async def _lead(self, tenant: str, exact: str, anew: bytes) -> Any:
        token = f"{self._worker}{next(self._numbers)}".encode()
        words = encoded((word_of(exact), token, int(self._lease_s * 1000), anew))
        try:
            found = await answered(self._scripts.lead.run(self._keys(tenant), words))
        except asyncio.CancelledError:  # it may be ours by now
            self._beside(self._give_back(tenant, exact, token, each=False))
            raise
        if found != _OURS:
            return found
        lease = HeldLease(self, tenant, exact, token, self._clock())
        self._held.add(lease)
        return lease

    async def _give_back(self, tenant: str, exact: str, token: bytes, *, each: bool) -> None:
        words = encoded((word_of(tenant), word_of(exact), token, b"1" if each else b""))
        with suppress(StoreAway):
            await answered(self._scripts.release.run(self._keys(tenant), words))

    async def _renewing(self) -> None:
        while True:
            await asyncio.sleep(self._renewal_s)
            now_s = self._clock()
            for lease in [one for one in self._held if now_s - one.since_s >= self._renewal_s]:
                if now_s - lease.since_s > lease.longest_s():  # it is not waited for any more
                    self._held.discard(lease)
                else:
                    self._beside(self._renew(lease))

    async def _renew(self, lease: HeldLease) -> None:
        words = encoded((word_of(lease.exact), lease.token, int(self._lease_s * 1000)))
        with suppress(StoreAway):
            await answered(self._scripts.renew.run(self._keys(lease.tenant), words))

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _taken(found: Any) -> Taken | None:
    return Taken((found - 2) / 1000) if isinstance(found, int) and found > _OURS else None
