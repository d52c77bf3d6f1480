"""Answers in this process's memory, for one worker: the semantics of `Store` without a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from math import inf
from typing import Final

from gateway.cache.base import Listener, Quota, Stored, Wanted
from gateway.cache.keeping import Limits, findable, size_of, worth_of
from gateway.cache.value_heap import ValueHeap

_REAPED_AT_ONCE: Final = 20
_SLICE: Final = 256


class _Row:
    """An answer where it lies."""

    __slots__ = ("hits", "pool", "size", "stored", "worth")

    def __init__(self, stored: Stored, pool: str, size: int) -> None:
        self.stored = stored
        self.pool = pool
        self.size = size
        self.worth = worth_of(stored)
        self.hits = 0

    @property
    def value(self) -> float:
        """What it is expected to save, per byte."""
        return (1 + self.hits) * self.worth / max(self.size, 1)


class _Pool:
    """Answers that are counted together, the least valued first."""

    def __init__(self) -> None:
        self.order = ValueHeap()
        self.bytes = 0

    def held(self) -> tuple[int, int]:
        return len(self.order), self.bytes


class _Tenant:
    """All that one tenant keeps. `clock` is the value of the last victim: what is used from then on outlives it."""

    def __init__(self) -> None:
        self.rows: dict[str, _Row] = {}
        self.exact: dict[str, str] = {}
        self.expiry = ValueHeap()
        self.pools: dict[str, _Pool] = {}
        self.clock = 0.0

    def forget(self, answer_id: str) -> _Row | None:
        row = self.rows.pop(answer_id, None)
        if row is None:
            return None
        del self.exact[row.stored.exact]
        self.expiry.discard(answer_id)
        pool = self.pools[row.pool]
        pool.order.discard(answer_id)
        pool.bytes -= row.size
        if not len(pool.order):
            del self.pools[row.pool]
        return row

    def keep(self, row: _Row) -> None:
        stored = row.stored
        self.rows[stored.id] = row
        self.exact[stored.exact] = stored.id
        self.expiry.set(stored.id, stored.gone_s)
        pool = self.pools.setdefault(row.pool, _Pool())
        pool.bytes += row.size
        pool.order.set(stored.id, self.clock + row.value)

    def room_for(self, name: str, limits: Limits) -> tuple[int, int]:
        """Entries and bytes that a pool could have at most: all but what others use of what they are sure of."""
        free = list(limits.most)
        for other, pool in self.pools.items():
            if other != name:
                for place, (held, own) in enumerate(zip(pool.held(), limits.sure_of(other), strict=True)):
                    free[place] -= min(held, own)
        return free[0], free[1]

    def victim(self, row: _Row, limits: Limits) -> str | None:
        """Who has to go before the row can come: the least valued of those pools that use more than they are sure of,
        the row's own with the row in it. There is one wherever `room_for` the row was enough."""
        for place, more in enumerate((1, row.size)):
            held = {name: pool.held()[place] + more * (name == row.pool) for name, pool in self.pools.items()}
            if sum(held.values()) + more * (row.pool not in held) > limits.most[place]:
                above = [name for name in held if held[name] > limits.sure_of(name)[place]]
                value, answer_id = min(self.pools[name].order.least() for name in above)
                self.clock = max(self.clock, value)
                return answer_id
        return None


class MemoryStore:
    """`Store` in memory; another process sees nothing of it. Each put takes some that have expired away."""

    def __init__(self, listener: Listener, clock: Callable[[], float] = time.time) -> None:
        self._listener = listener
        self._clock = clock
        self._tenants: dict[str, _Tenant] = {}
        self._next_expiry = ValueHeap()

    async def start(self) -> None:
        """See `Store.start`: nothing is there yet."""

    async def close(self) -> None:
        """See `Store.close`."""

    async def exact(self, tenant: str, exact: str, stale_s: float = 0.0) -> Stored | None:
        """See `Store.exact`."""
        kept = self._tenants.get(tenant)
        return None if kept is None else self._alive(kept, kept.exact.get(exact, ""), stale_s)

    async def get(self, tenant: str, answer_id: str, stale_s: float = 0.0) -> Stored | None:
        """See `Store.get`."""
        kept = self._tenants.get(tenant)
        return None if kept is None else self._alive(kept, answer_id, stale_s)

    async def put(self, stored: Stored, quota: Quota) -> bool:
        """See `Store.put`; also False where there is no room but what other categories are sure of, and for what has
        expired already."""
        stored, limits = findable(stored), Limits.of(quota)
        self._reap()
        row = _Row(stored, limits.pool_of(stored), size_of(stored))
        kept = self._tenants.get(stored.tenant) or _Tenant()
        entries, size = kept.room_for(row.pool, limits)
        if entries < 1 or size < row.size or stored.gone_s <= self._clock():
            return False
        self._forget(stored.tenant, kept, self._replaced(kept, row, limits))
        kept.keep(row)
        self._tenants[stored.tenant] = kept
        self._next_expiry.set(stored.tenant, kept.expiry.least()[0])
        if stored.known is not None:
            self._listener.added((stored.known,))
        return True

    async def hit(self, stored: Stored) -> None:
        """See `Store.hit`."""
        kept = self._tenants.get(stored.tenant)
        row = kept.rows.get(stored.id) if kept is not None else None
        if kept is not None and row is not None:
            row.hits += 1
            kept.pools[row.pool].order.set(stored.id, kept.clock + row.value)

    async def drop(self, tenant: str, ids: Sequence[str]) -> int:
        """See `Store.drop`."""
        kept = self._tenants.get(tenant)
        if kept is None:
            return 0
        gone = [row for row in map(kept.forget, ids) if row is not None]
        self._forget(tenant, kept, gone)
        return len(gone)

    async def entries(self, tenant: str, wanted: Wanted) -> AsyncIterator[Stored]:
        """See `Store.entries`."""
        kept = self._tenants.get(tenant)
        ids = list(wanted.ids or kept.rows) if kept is not None else []
        for number, answer_id in enumerate(dict.fromkeys(ids)):
            if number % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            found = self._alive(kept, answer_id, inf) if kept is not None else None
            if found is not None and wanted.holds(found):
                yield found

    async def tenants(self) -> list[str]:
        """See `Store.tenants`."""
        now_s = self._clock()
        return [
            name for name, kept in self._tenants.items() if any(row.stored.gone_s > now_s for row in kept.rows.values())
        ]

    def figures(self) -> dict[str, float]:
        """See `Store.figures`."""
        return {}

    def _alive(self, kept: _Tenant, answer_id: str, stale_s: float) -> Stored | None:
        row = kept.rows.get(answer_id)
        return row.stored if row is not None and row.stored.lives(self._clock(), stale_s) else None

    @staticmethod
    def _replaced(kept: _Tenant, row: _Row, limits: Limits) -> list[_Row]:
        """Take out what the answer replaces, and what has to make room for it."""
        gone = [kept.forget(row.stored.id), kept.forget(kept.exact.get(row.stored.exact, ""))]
        while (victim := kept.victim(row, limits)) is not None:
            gone.append(kept.forget(victim))
        return [one for one in gone if one is not None]

    def _reap(self) -> None:
        """Some that have expired, of any tenant."""
        now_s = self._clock()
        for _ in range(_REAPED_AT_ONCE):
            if not len(self._next_expiry) or self._next_expiry.least()[0] > now_s:
                return
            tenant = self._next_expiry.least()[1]
            kept = self._tenants[tenant]
            gone_s, answer_id = kept.expiry.least()
            gone = kept.forget(answer_id) if gone_s <= now_s else None
            self._forget(tenant, kept, [gone] if gone is not None else [])

    def _forget(self, tenant: str, kept: _Tenant, gone: Sequence[_Row]) -> None:
        """Tell that these are out, and see when the tenant's next one expires."""
        if ids := [row.stored.id for row in gone if row.stored.vector is not None]:
            self._listener.dropped(tenant, ids)
        if kept.rows:
            self._next_expiry.set(tenant, kept.expiry.least()[0])
        else:
            self._next_expiry.discard(tenant)
            self._tenants.pop(tenant, None)
