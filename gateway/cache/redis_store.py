"""Answers in one Redis, shared by all workers: each step is one call of one Lua script.

Plain Redis from 6.2 on, no modules. What Redis forgets or others overwrite is a miss, never a wrong answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from math import inf
from typing import Any, Final

from gateway.cache.base import Listener, Quota, StoreAway, Stored, Wanted
from gateway.cache.keeping import Limits, findable, size_of, worth_of
from gateway.cache.leases import Leases
from gateway.cache.packed import CorruptError
from gateway.cache.redis_feed import RedisFeed
from gateway.cache.sealed import Form, Plain, SealedOtherwise
from gateway.cache.store_scripts import DUE, answered, key_of, keys_of, name_of, scripts_on, word_of
from gateway.redis_link import RedisLink, encoded

LONGEST_S: Final = 10 * 366 * 86_400.0
_UPKEEP_S: Final = 5.0
_REAPED_AT_ONCE: Final = 100
_TENANTS_AT_ONCE: Final = 16
_DROPPED_AT_ONCE: Final = 200
_READ_AT_ONCE: Final = 32
# Packing more would hold up the event loop.
_PACKED_ASIDE_FROM: Final = 64 * 1024


class RedisStore:
    """`Store` in Redis. The caller starts and closes `link`, whose bound is the store's; changes are read beside it.

    `form` is how answers lie there. Expiry is judged by this process's clock; Redis' own only takes away what nobody
    has touched for long.
    """

    def __init__(
        self,
        link: RedisLink,
        url: str,
        listener: Listener,
        clock: Callable[[], float] = time.time,
        form: Form | None = None,
    ) -> None:
        self._link = link
        self._form = form or Plain()
        self._clock = clock
        self._scripts = scripts_on(link)
        self._keys = lru_cache(4_096)(keys_of)
        self.leases = Leases(self._scripts, self._keys, self._read)
        self._feed = RedisFeed(RedisLink.patient(url), listener, clock, self._form, self.leases)
        self._upkeep: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """See `Store.start`."""
        if self._upkeep is None:
            self._feed.start()
            self.leases.start()
            self._upkeep = asyncio.create_task(self._keep_up(), name="cache-upkeep")

    async def close(self) -> None:
        """See `Store.close`."""
        if self._upkeep is not None and not self._upkeep.done():
            self._upkeep.cancel()
            await asyncio.wait({self._upkeep})
        await self.leases.close()
        await self._feed.close()

    async def exact(self, tenant: str, exact: str, stale_s: float = 0.0) -> Stored | None:
        """See `Store.exact`."""
        return await self._find(tenant, "", exact, stale_s)

    async def get(self, tenant: str, answer_id: str, stale_s: float = 0.0) -> Stored | None:
        """See `Store.get`."""
        return await self._find(tenant, answer_id, "", stale_s) if answer_id else None

    async def put(self, stored: Stored, quota: Quota) -> bool:
        """See `Store.put`; also False where there is no room but what other categories are sure of, and for what has
        expired already."""
        stored, limits, now_s = findable(stored), Limits.of(quota), self._clock()
        document = await self._document(stored)
        head = (
            word_of(stored.tenant),
            now_s,
            word_of(stored.id),
            word_of(stored.exact),
            word_of(limits.pool_of(stored)),
        )
        weights = (size_of(stored), worth_of(stored), min(stored.gone_s, now_s + LONGEST_S))
        shares = [word for name, share in limits.sure.items() for word in (word_of(name), *share)]
        known = b"" if stored.known is None else self._form.known(stored.known)
        words = encoded((*head, *weights, document, known, *limits.most, *shares))
        reply = await answered(self._scripts.put.run(self._keys(stored.tenant), words))
        self._tell(stored.tenant, reply, stored if reply[0] else None)
        return bool(reply[0])

    async def hit(self, stored: Stored) -> None:
        """See `Store.hit`."""
        await answered(self._scripts.hit.run(self._keys(stored.tenant), encoded((word_of(stored.id),))))

    async def drop(self, tenant: str, ids: Sequence[str]) -> int:
        """See `Store.drop`."""
        count = 0
        for start in range(0, len(ids), _DROPPED_AT_ONCE):
            words = map(word_of, ids[start : start + _DROPPED_AT_ONCE])
            count += await self._change(self._scripts.drop.run, tenant, *words)
        return count

    async def entries(self, tenant: str, wanted: Wanted) -> AsyncIterator[Stored]:
        """See `Store.entries`; some that come or go meanwhile may be left out."""
        seen: set[str] = set()
        async for ids in self._ids(tenant, wanted):
            new = [one for one in dict.fromkeys(ids) if one not in seen]
            seen.update(new)
            for found in await asyncio.gather(*(self.get(tenant, one, inf) for one in new)):
                if found is not None and wanted.holds(found):
                    yield found

    async def tenants(self) -> list[str]:
        """See `Store.tenants`."""
        await self._reap()
        found = await answered(self._link.call("ZRANGE", DUE, 0, -1))
        return [name_of(tenant) for tenant in found]

    def figures(self) -> dict[str, float]:
        """See `Store.figures`."""
        return dict(self._form.counts)

    async def _find(self, tenant: str, answer_id: str, exact: str, stale_s: float) -> Stored | None:
        words = encoded((word_of(answer_id), word_of(exact)))
        found = await answered(self._scripts.find.run(self._keys(tenant), words))
        return None if found is None else await self._read(tenant, found, exact, stale_s)

    async def _read(self, tenant: str, found: Any, exact: str, stale_s: float = 0.0) -> Stored | None:
        """What a script has found, unless it can't be read or has expired longer ago than it is wanted."""
        try:
            answer_id = name_of(found[0])
            stored = self._form.read_document(tenant, answer_id, found[1], found[2])
            if exact and stored.exact != exact:
                raise CorruptError("another answer's fingerprint")
        except SealedOtherwise:
            return None
        except ValueError:
            await self._change(self._scripts.drop.run, tenant, found[0])
            return None
        return stored if stored.lives(self._clock(), stale_s) else None

    async def _ids(self, tenant: str, wanted: Wanted) -> AsyncIterator[list[str]]:
        """Ids that may be wanted, a few at a time."""
        if wanted.ids:
            for start in range(0, len(wanted.ids), _READ_AT_ONCE):
                yield list(wanted.ids[start : start + _READ_AT_ONCE])
            return
        cursor = b"0"
        while True:
            cursor, rows = await answered(
                self._link.call("HSCAN", key_of(tenant, "rows"), cursor, "COUNT", 4 * _READ_AT_ONCE)
            )
            ids = [name_of(one) for one in rows[::2]]
            for start in range(0, len(ids), _READ_AT_ONCE):
                yield ids[start : start + _READ_AT_ONCE]
            if cursor == b"0":
                return

    async def _change(self, run: Callable[..., Awaitable[Any]], tenant: str, *words: bytes | int) -> int:
        """Run a script that may let answers go, and tell of them; the first number of its reply."""
        reply = await answered(run(self._keys(tenant), encoded((word_of(tenant), self._clock(), *words))))
        self._tell(tenant, reply, None)
        count: int = reply[0]
        return count

    def _tell(self, tenant: str, reply: Sequence[Any], stored: Stored | None) -> None:
        known = stored.known if stored is not None else None
        self._feed.tell(reply[1], tenant, [name_of(one) for one in reply[2:]], known)

    async def _keep_up(self) -> None:
        """Take away what expires where nobody puts anything."""
        while True:
            await asyncio.sleep(_UPKEEP_S)
            with suppress(StoreAway):
                await self._reap()

    async def _reap(self) -> None:
        due = await answered(self._link.call("ZRANGEBYSCORE", DUE, "-inf", self._clock(), "LIMIT", 0, _TENANTS_AT_ONCE))
        for tenant in due:
            await self._change(self._scripts.reap.run, name_of(tenant), _REAPED_AT_ONCE)

    async def _document(self, stored: Stored) -> bytes:
        if len(stored.body) < _PACKED_ASIDE_FROM:
            return self._form.document(stored)
        return await asyncio.to_thread(self._form.document, stored)
