"""Ends of leases on their way to Redis and into the book: many in one call, each exactly once, kept while it is away.

Knows nothing of admission. A batch bears a number, so that one whose answer was lost may be sent again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from gateway.admission.gauges import Settlement
from gateway.admission.redis_rules import SpelledRules, counted_buckets
from gateway.admission.redis_scripts import Scripts
from gateway.admission.spend_book import SpendBook
from gateway.redis_link import Argument, Encoded, RedisLink, RedisRefused, RedisUnavailable, Script, encoded

GATHER_S: Final = 0.002
MOST_AT_ONCE: Final = 200
MOST_WAITING: Final = 100_000
_REFUSED_PAUSE_S: Final = 1.0
_UNSURE: Final = -2

_log: Final = logging.getLogger("fingerpost.budgets")


@dataclass(frozen=True, slots=True, eq=False)
class _Due:
    settlement: Settlement
    spelled: SpelledRules


@dataclass(slots=True, eq=False)
class Settling:
    """One queue per process. Money is booked once Redis has counted it; what a budget's first reader finds in the
    book is then never also in this queue, as long as he holds `lock` from reading to teaching Redis."""

    link: RedisLink
    scripts: Scripts
    book: SpendBook
    keys: Encoded
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _queue: deque[_Due] = field(default_factory=deque)
    _in_hand: Sequence[_Due] = ()
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _numbers: count[int] = field(default_factory=lambda: count(1))
    _task: asyncio.Task[None] | None = None
    _closing: bool = False

    def __len__(self) -> int:
        """How many settlements wait."""
        return len(self._queue) + len(self._in_hand)

    def add(self, settlement: Settlement, spelled: SpelledRules) -> None:
        """To be carried out within milliseconds; where too many wait already, the oldest goes to the book alone."""
        if len(self._queue) >= MOST_WAITING:
            self._book(self._queue.popleft(), int(time.time()))
        self._queue.append(_Due(settlement, spelled))
        if len(self._queue) == 1:
            self._wake.set()

    def start(self) -> None:
        """Begin to carry out."""
        self._task = asyncio.create_task(self._run(), name="redis-settling")

    async def drain(self, timeout_s: float) -> None:
        """Carry out what waits; after `timeout_s` the rest goes to the book alone (its leases will expire, and be
        charged whole, where Redis comes back with its data)."""
        task, self._task = self._task, None
        self._closing = True
        self._wake.set()
        if task is not None:
            await asyncio.wait({task}, timeout=timeout_s)
            task.cancel()
            await asyncio.wait({task})
        left = [*self._in_hand, *self._queue]
        if left:
            _log.warning("budgets: Redis is away; %d settlements go to the database alone", len(left))
        for due in left:
            self._book(due, int(time.time()))
        self._queue.clear()
        self._in_hand = ()

    async def _run(self) -> None:
        while self._queue or not self._closing:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(GATHER_S)
            while self._queue:
                (fault,) = await asyncio.gather(self._carry_out(), return_exceptions=True)
                if fault is not None:
                    self._give_up(fault)

    def _give_up(self, fault: BaseException) -> None:
        """A fault of our own must not end all settling: it is told, and the money goes to the book."""
        _log.error("budgets: %d settlements failed", len(self._in_hand), exc_info=fault)
        for due in self._in_hand:
            self._book(due, int(time.time()))
        self._in_hand = ()

    async def _carry_out(self) -> None:
        queue = self._queue
        async with self.lock:
            self._in_hand = batch = [queue.popleft() for _ in range(min(len(queue), MOST_AT_ONCE))]
            words: list[Argument] = []
            for due in batch:
                one = due.settlement
                words += (one.lease_id, one.cost_nanousd, one.tokens)
            now, *unknown = await self._surely(self.scripts.settle, words)
            for due in batch if not unknown else _without(batch, unknown):
                self._book(due, now)
            self._in_hand = lost = [batch[place - 1] for place in unknown]
            if lost:
                await self._count(lost)
            self._in_hand = ()

    async def _count(self, lost: Sequence[_Due]) -> None:
        """Costs of leases that Redis does not know; of those that expired the charge is corrected where it stands."""
        words: list[Argument] = []
        for due in lost:
            words += (due.settlement.lease_id, due.settlement.cost_nanousd, due.spelled.spelled)
        now, *charges = await self._surely(self.scripts.count, words)
        for due, charged in zip(lost, charges, strict=True):
            if not charged:
                self._book(due, now)
                continue
            cost, at = map(int, charged.split())
            for budget_id, bucket in counted_buckets(due.spelled.spelled, at, now):
                self.book.add(budget_id, bucket, due.settlement.cost_nanousd - cost)

    async def _surely(self, script: Script, words: Sequence[Argument]) -> Any:
        """Ask until there is an answer, with one number, so that it counts once."""
        number = next(self._numbers)
        while True:
            await self.link.until_up()
            try:
                reply = await script.run(self.keys, encoded((self.link.generation, number, *words)))
                if reply[0] != _UNSURE:
                    return reply
            except RedisRefused as refused:
                _log.error("budgets: Redis refuses settlements: %s", refused)
                await asyncio.sleep(_REFUSED_PAUSE_S)
            except RedisUnavailable:
                continue

    def _book(self, due: _Due, now_s: int) -> None:
        cost, spelled = due.settlement.cost_nanousd, due.spelled
        if cost:
            buckets = spelled.buckets(now_s)
            for budget_id, bucket in buckets:
                self.book.add(budget_id, bucket, cost)
            if buckets is not spelled.booked:
                spelled.booked = buckets
                for budget_id, first in spelled.forgettable(now_s):
                    self.book.forget(budget_id, first)


def _without(batch: Sequence[_Due], places: Sequence[int]) -> list[_Due]:
    out = set(places)
    return [due for place, due in enumerate(batch, 1) if place not in out]
