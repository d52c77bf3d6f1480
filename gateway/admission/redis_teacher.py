"""Teaches Redis what it does not know or has lost: what budgets have spent, and the leases that run here.

An epoch in Redis tells that it still has its data; it is gone with them, and whoever is first begins a new one.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec

from gateway.admission.gauges import GaugesUnavailable
from gateway.admission.redis_rules import SpelledRules
from gateway.admission.redis_scripts import Scripts
from gateway.admission.rules import Budget
from gateway.admission.spend_book import SpendBook
from gateway.admission.windows import first_bucket
from gateway.ledger.faults import DatabaseUnavailable
from gateway.redis_link import Argument, Encoded, RedisLink, RedisUnavailable, encoded

EPOCH_KEY: Final = "{fp}:epoch"
BUDGET_KEY: Final = "{fp}:budget:"
WATCH_S: Final = 1.0
# How long an admission waits for the database where Redis does not know a budget.
LEARN_S: Final = 2.0
# The clocks of this machine and of Redis may differ by this much.
SKEW_S: Final = 3_600.0
_AT_ONCE: Final = 100

_log: Final = logging.getLogger("fingerpost.budgets")


@dataclass(slots=True, eq=False)
class RunningLease:
    """A lease of this process."""

    spelled: SpelledRules
    reserved_nanousd: int
    tokens: int


@dataclass(slots=True, eq=False)
class Teacher:
    """One per process. `settling` is held while the book is read and Redis is taught, see `Settling`."""

    link: RedisLink
    scripts: Scripts
    keys: Encoded
    book: SpendBook
    settling: asyncio.Lock
    running: Mapping[str, RunningLease]
    lease_s: float
    epoch: str = ""
    _unknown: dict[str, Budget] = field(default_factory=dict)
    _learning: asyncio.Task[None] | None = None
    _watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._watching = asyncio.create_task(self._watch(), name="redis-watch")

    async def close(self) -> None:
        """End what runs."""
        for task in (self._watching, self._learning):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})

    async def learn(self, budgets: Sequence[Budget]) -> None:
        """Teach Redis these budgets, and all that it has lost; one task for all who wait.

        Raises `GaugesUnavailable` where Redis or the database does not answer: what was spent is then not known.
        """
        self._unknown.update((budget.id, budget) for budget in budgets)
        task = self._learning
        if task is None or task.done():
            task = self._learning = asyncio.create_task(self._teach(), name="redis-teach")
        await asyncio.wait({task}, timeout=LEARN_S)
        if not task.done() or task.cancelled():
            raise _unknown_spending("no answer in time")
        error = task.exception()
        if isinstance(error, (RedisUnavailable, DatabaseUnavailable)):
            raise _unknown_spending(str(error)) from error
        if error is not None:
            raise error

    async def _teach(self) -> None:
        async with self.settling:
            running = list(self.running.items())
            budgets, self._unknown = self._unknown, {}
            for _, lease in running:
                budgets.update((budget.id, budget) for budget in lease.spelled.rules.budgets)
            epoch = await self._seed(await self._strange(list(budgets.values())))
            if epoch != self.epoch:
                await self._restore(running)
                self.epoch = epoch

    async def _strange(self, budgets: Sequence[Budget]) -> Sequence[Budget]:
        """Those that Redis does not know; of the others it knows more than the book, which is then not needed."""
        asked = [self.link.call("HEXISTS", BUDGET_KEY + budget.id, "r") for budget in budgets]
        known = await asyncio.gather(*asked)
        return [budget for budget, there in zip(budgets, known, strict=True) if not there]

    async def _seed(self, budgets: Sequence[Budget]) -> str:
        epoch = b""
        then_s = time.time() - SKEW_S
        for start in range(0, max(len(budgets), 1), _AT_ONCE):
            part = budgets[start : start + _AT_ONCE]
            wanted = {one.id: first_bucket(one.window, then_s) for one in part}
            sums = await self.book.read(wanted) if wanted else {}
            words: list[Argument] = [secrets.token_hex(8)]
            for budget_id, spent in sums.items():
                flat = [str(number) for pair in spent.items() for number in pair]
                words += (budget_id, msgspec.msgpack.encode(flat))
            epoch = await self.scripts.seed.run(self.keys, encoded(words))
        return epoch.decode()

    async def _restore(self, running: Sequence[tuple[str, RunningLease]]) -> None:
        count = 0
        for start in range(0, len(running), _AT_ONCE):
            words: list[Argument] = [self.link.generation, self.lease_s]
            for lease_id, lease in running[start : start + _AT_ONCE]:
                words += (lease_id, lease.reserved_nanousd, lease.tokens, lease.spelled.spelled)
            count += await self.scripts.restore.run(self.keys, encoded(words))
        if self.epoch:
            _log.warning("budgets: Redis had lost its data; %d of %d leases set up again", count, len(running))

    async def _watch(self) -> None:
        """Notice soon when Redis has lost its data, also where no new call asks it."""
        while True:
            await asyncio.sleep(WATCH_S)
            with suppress(RedisUnavailable, GaugesUnavailable):
                if self.running and await self.link.call("GET", EPOCH_KEY) != self.epoch.encode():
                    await self.learn(())


def _unknown_spending(reason: str) -> GaugesUnavailable:
    error = GaugesUnavailable(f"what was spent is not known: {reason}")
    error.asked = False
    return error
