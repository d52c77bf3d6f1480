"""What changes in a Redis store, told to one worker in order: a cold start from what is there, then the log of changes.

It resumes where it stopped as long as the last change that it told is still in the log; else it tells everything anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Final

from gateway.cache.base import Known, Listener
from gateway.cache.leases import Leases
from gateway.cache.packed import CorruptError
from gateway.cache.sealed import Form, SealedOtherwise
from gateway.cache.store_scripts import DUE, LOG, key_of, name_of, word_of
from gateway.redis_link import RedisLink, RedisRefused, RedisUnavailable
from gateway.redis_wire import packed

# Well below the patience of the link.
_BLOCK_MS: Final = 1_000
_SLICE: Final = 256
_RETRY_S: Final = 1.0
_MOST_AHEAD: Final = 10_000

_log: Final = logging.getLogger("fingerpost.cache")
Place = tuple[int, int]
Name = tuple[str, bytes]


class RedisFeed:
    """One reader for all tenants, on a patient link of its own. A worker's own changes are told by `tell`, at once."""

    def __init__(
        self,
        link: RedisLink,
        listener: Listener,
        clock: Callable[[], float],
        form: Form,
        leases: Leases | None = None,
    ) -> None:
        self._link = link
        self._listener = listener
        self._form = form
        self._leases = leases
        self._clock = clock
        self._last = b"0-0"
        self._loaded = False
        self._ahead: dict[Name, Place] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read; returns at once."""
        self._task = asyncio.create_task(self._run(), name="cache-feed")
        self._task.add_done_callback(_say_why)

    async def close(self) -> None:
        """End that, and close the link; idempotent."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._link.close()

    def tell(self, place: bytes, tenant: str, dropped: Sequence[str], known: Known | None) -> None:
        """Tell a change of our own, at `place` in the log (empty: it is not there), unless the log was quicker."""
        if not place or (self._loaded and _order(place) <= _order(self._last)):
            return
        if dropped:
            self._listener.dropped(tenant, dropped)
        if known is not None:
            self._listener.added((known,))
        if len(self._ahead) < _MOST_AHEAD:
            names = dropped if known is None else (*dropped, known.id)
            self._ahead.update({(tenant, word_of(name)): _order(place) for name in names})

    async def _run(self) -> None:
        await self._link.start()
        while True:
            try:
                self._loaded = await (self._follow() if self._loaded else self._load())
            except RedisRefused as refused:
                _log.warning("cache: the changes of others can't be read: %s", refused.code)
                await asyncio.sleep(_RETRY_S)
            except RedisUnavailable:
                self._unsure()
                await self._link.until_up()

    async def _load(self) -> bool:
        """Tell all that is there; changes from before its beginning on follow from the log."""
        last = await self._end_of_log()
        self._ahead.clear()
        self._listener.cleared()
        self._unsure()
        for tenant in await self._link.call("ZRANGE", DUE, 0, -1):
            async for known in self._known(name_of(tenant)):
                self._listener.added(known)
        self._last = last
        return True

    async def _end_of_log(self) -> bytes:
        """The place of the last change; a log that is empty gets one, so that its loss is seen."""
        found = await self._link.call("XREVRANGE", LOG, "+", "-", "COUNT", 1)
        place: bytes = found[0][0] if found else await self._link.call("XADD", LOG, "*", "t", "")
        return place

    async def _known(self, tenant: str) -> AsyncIterator[list[Known]]:
        cursor, now_s = b"0", self._clock()
        while True:
            cursor, rows = await self._link.call("HSCAN", key_of(tenant, "known"), cursor, "COUNT", _SLICE)
            pairs = zip(rows[::2], rows[1::2], strict=True)
            found = self._readable((tenant, name, data) for name, data in pairs if (tenant, name) not in self._ahead)
            if alive := [one for one in found if one.gone_s > now_s]:
                yield alive
            if cursor == b"0":
                return

    async def _follow(self) -> bool:
        """Tell the next changes; False where there is a gap before them.

        Redis runs both commands in a row: where the last change that we told is still there after the reading, none was
        lost behind it.
        """
        read = ("XREAD", "COUNT", _SLICE, "BLOCK", _BLOCK_MS, "STREAMS", LOG, self._last)
        sent = (self._link.send(packed(read)), self._link.send(packed(("XRANGE", LOG, self._last, self._last))))
        found, still_there = await asyncio.gather(*sent)
        if not still_there:
            return False
        return self._tell(found[0][1]) if found else True

    def _tell(self, rows: Sequence[Any]) -> bool:
        """Tell what changes in a row come to; False where all is void."""
        dropped: dict[str, dict[str, None]] = {}
        added: dict[Name, bytes] = {}
        for place, words in rows:
            self._last = place
            tenant, name = "", b""
            for field, value in zip(words[::2], words[1::2], strict=True):
                if field == b"w":
                    return False
                if field == b"t":
                    tenant = name_of(value)
                elif field == b"d" and self._is_news((tenant, value), place):
                    dropped.setdefault(tenant, {})[name_of(value)] = None
                    added.pop((tenant, value), None)
                elif field == b"i":
                    name = value
                elif field == b"k" and self._is_news((tenant, name), place):
                    added[tenant, name] = value
                elif field in (b"x", b"e") and self._leases is not None:
                    self._leases.heard(tenant, name_of(value), each=field == b"e")
        for tenant, names in dropped.items():
            self._listener.dropped(tenant, list(names))
        if known := self._readable((tenant, name, data) for (tenant, name), data in added.items()):
            self._listener.added(known)
        return True

    def _readable(self, rows: Iterable[tuple[str, bytes, bytes]]) -> list[Known]:
        """What can be read of tenants, ids and their forms; what can't is as if it were not there."""
        found = []
        for tenant, name, data in rows:
            try:
                found.append(self._form.read_known(tenant, name_of(name), data))
            except (CorruptError, SealedOtherwise):
                continue
        return found

    def _unsure(self) -> None:
        if self._leases is not None:
            self._leases.unsure()

    def _is_news(self, name: Name, place: bytes) -> bool:
        """Whether the log has come to what we have not told of a name ahead of it: what we told then stands."""
        told = self._ahead.get(name)
        if told is None:
            return True
        if told <= (now := _order(place)):
            del self._ahead[name]
        return told < now


def _say_why(ended: asyncio.Task[None]) -> None:
    if not ended.cancelled() and (error := ended.exception()) is not None:
        _log.error("cache: a bug has ended the reading of changes; restart this worker", exc_info=error)


def _order(place: bytes) -> Place:
    milliseconds, _, number = place.partition(b"-")
    return int(milliseconds), int(number)
