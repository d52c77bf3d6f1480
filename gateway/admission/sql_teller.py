"""One queue and one task per process for budgets in SQL: what waits together is carried out in one transaction.

Knows that a database may be away, not what a step means. While it is away nobody waits; ends of leases are kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.admission.gauges import GaugesUnavailable
from gateway.admission.sql_book import SqlBook
from gateway.admission.sql_steps import Answer, Batch, End, Step
from gateway.admission.sql_transactions import transactions_on
from gateway.admission.steady_clock import SteadyClock
from gateway.ledger.faults import describe, is_away

MOST_ENDS: Final = 20_000
MOST_WAITING: Final = 4_000
MOST_AT_ONCE: Final = 256
FIRST_RETRY_S: Final = 0.1
LAST_RETRY_S: Final = 2.0
_ATTEMPTS: Final = 3
# A connection that hangs takes this long to be broken off.
_BREAK_OFF_S: Final = 3.0

_log: Final = logging.getLogger("fingerpost.budgets")
Futures = list[asyncio.Future[Answer]]


def not_asked(why: str) -> GaugesUnavailable:
    """The database was not even tried, so that nothing needs to be undone."""
    error = GaugesUnavailable(why)
    error.asked = False
    return error


class Teller:
    """Answers within twice `timeout_s`, since a step may have to wait for one transaction before its own.

    Ends are kept, in their order, until the database has taken them; over `MOST_ENDS` the newest are given up (their
    leases expire, and are charged whole). The caller disposes of the engine, after `drain`.
    """

    def __init__(
        self, engine: AsyncEngine, book: SqlBook, clock: SteadyClock, timeout_s: float, on_back: Callable[[], None]
    ) -> None:
        self._transactions = transactions_on(engine, timeout_s * 0.9)
        self._book = book
        self._clock = clock
        self._timeout_s = timeout_s
        self._on_back = on_back
        self._asked: deque[tuple[Step, asyncio.Future[Answer]]] = deque()
        self._ends: deque[End] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._dying: asyncio.Task[list[Answer]] | None = None
        self._closing = False
        self._retry_s = FIRST_RETRY_S
        self.up = True

    async def ask(self, step: Step) -> Answer:
        """Carry out a step; raises `GaugesUnavailable`."""
        if not self.up or self._closing or self._task is None or len(self._asked) >= MOST_WAITING:
            raise not_asked("budgets can't be asked now" if self.up else "the database of budgets is away")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked.append((step, future))
        self._wake.set()
        return await future

    def end(self, end: End) -> None:
        """Carry out the end of a lease, soon; never waits, never raises."""
        if len(self._ends) >= MOST_ENDS:
            _log.error("budgets: too many settlements wait; lease %s will expire", end.lease_id)
            return
        self._ends.append(end)
        self._wake.set()

    async def start(self) -> None:
        """Begin; does not wait for the database."""
        self._task = asyncio.create_task(self._run(), name="budget-teller")

    async def drain(self, timeout_s: float) -> None:
        """Carry out what waits; what the database does not take within `timeout_s` expires with its leases."""
        if self._closing:
            return
        self._closing = True
        self._wake.set()
        task, self._task = self._task, None
        if task is not None:
            await asyncio.wait({task}, timeout=timeout_s)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._ends:
            _log.error("budgets: %d settlements could not be written; their leases will expire", len(self._ends))
        self._fail([future for _, future in self._asked], not_asked("budgets are closed"))
        await self._break_off()
        with suppress(TimeoutError):
            async with asyncio.timeout(_BREAK_OFF_S):
                await self._transactions.close()

    async def _run(self) -> None:
        while not (self._closing and not self._ends and not self._asked):
            if not self.up:
                await self._break_off()
                await asyncio.sleep(self._retry_s)
                self._retry_s = min(self._retry_s * 2, LAST_RETRY_S)
            elif not (self._ends or self._asked):
                self._wake.clear()
                await self._wake.wait()
            batch, futures = self._take()
            if len(batch) or not self.up:
                await self._carry_out(batch, futures)

    def _take(self) -> tuple[Batch, Futures]:
        """What is to be done next; empty where the database is only to be looked for."""
        batch, futures = Batch(), Futures()
        while self._ends and len(batch.ends) < MOST_AT_ONCE:
            batch.ends.append(self._ends.popleft())
        while self._asked and len(batch.steps) < MOST_AT_ONCE:
            step, future = self._asked[0]
            if not future.done() and not batch.fits(step) and batch.steps:
                break
            self._asked.popleft()
            if not future.done():  # or else nobody waits for it any more
                batch.steps.append(step)
                futures.append(future)
        return batch, futures

    async def _carry_out(self, batch: Batch, futures: Futures) -> None:
        """One transaction; where it fails because of one of its steps, the two halves, and so on."""
        task = asyncio.create_task(self._attempt(batch), name="budget-batch")
        try:
            error = await self._fault(task)
        except asyncio.CancelledError:
            self._ends.extendleft(reversed(batch.ends))
            self._fail(futures, GaugesUnavailable("budgets are closed"))
            raise
        if error is not None:
            await self._mend(batch, futures, error)
            return
        self._come_up()
        for future, answer in zip(futures, task.result(), strict=True):
            if not future.done():
                future.set_result(answer)

    async def _mend(self, batch: Batch, futures: Futures, error: BaseException) -> None:
        if is_away(error):
            self._ends.extendleft(reversed(batch.ends))
            self._fail(futures, GaugesUnavailable(f"the database did not answer: {describe(error)}"))
            self._go_down(describe(error))
        elif len(batch) > 1:
            for half in batch.halves():
                mine, futures = futures[: len(half.steps)], futures[len(half.steps) :]
                await self._carry_out(half, mine)
        else:
            _log.error("budgets: a step was given up (%s)", describe(error))
            self._fail(futures, GaugesUnavailable(f"the database refused the step: {describe(error)}"))

    async def _fault(self, task: asyncio.Task[list[Answer]]) -> BaseException | None:
        """What went wrong with a transaction; one that hangs is left to die by itself."""
        try:
            done, _ = await asyncio.wait({task}, timeout=self._timeout_s)
        except asyncio.CancelledError:
            self._let_die(task)
            raise
        if not done:
            self._let_die(task)
            return TimeoutError("no answer in time")
        return TimeoutError("broken off") if task.cancelled() else task.exception()

    async def _attempt(self, batch: Batch) -> list[Answer]:
        """Again where nothing can have happened: budgets without row, a stale connection, two that waited in a ring."""
        for _ in range(_ATTEMPTS):
            stale = self._transactions.stale
            try:
                answers = await self._transactions.run(partial(self._work, batch=batch))
                if answers is not None:
                    return answers
                await self._transactions.run(partial(self._book.add_rows, budget_ids=batch.budget_ids()))
            except DBAPIError as error:
                ring = str(getattr(error.orig, "sqlstate", "")).startswith("40")
                if self._transactions.unsure or not (ring or (stale and error.connection_invalidated)):
                    raise
        raise TimeoutError("the budgets' rows are not to be had")

    def _work(self, connection: Connection, batch: Batch) -> list[Answer] | None:
        if not self._clock.followed and (seconds := self._book.clock(connection)) is not None:
            self._clock.set(seconds)
        return self._book.carry_out(connection, batch, self._clock.now())

    def _let_die(self, task: asyncio.Task[list[Answer]]) -> None:
        task.cancel()
        self._dying = task
        self._transactions.abandon()

    async def _break_off(self) -> None:
        """Wait for a transaction that hangs to be broken off, so that there is hardly ever more than one."""
        task, self._dying = self._dying, None
        if task is not None:
            await asyncio.wait({task}, timeout=_BREAK_OFF_S)
            if task.done():
                with suppress(asyncio.CancelledError, SQLAlchemyError, OSError):
                    task.result()

    def _fail(self, futures: Futures, error: GaugesUnavailable) -> None:
        for future in futures:
            if not future.done():
                future.set_exception(error)

    def _go_down(self, reason: str) -> None:
        if self.up:
            _log.warning("budgets: the database is away (%s); settlements wait in memory", reason)
        self.up = False
        waiting = [future for _, future in self._asked]
        self._asked.clear()
        self._fail(waiting, not_asked("the database of budgets is away"))

    def _come_up(self) -> None:
        if not self.up:
            _log.warning("budgets: the database is back")
            self.up = True
            self._on_back()
            self._retry_s = FIRST_RETRY_S
