"""How transactions are run: over the async driver, or, on SQLite, each as one piece in a thread.

Knows nothing of what they do. One at a time; the connection is kept from one to the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.ledger.engine import blocking_twin, writing

Found = TypeVar("Found")


class Transactions(Protocol):
    """One connection's transactions, one after the other."""

    @property
    def stale(self) -> bool:
        """Whether the next one would use a connection that was opened before, and may be broken by now."""

    @property
    def unsure(self) -> bool:
        """Of one that failed: whether it may have been committed all the same."""

    async def run(self, work: Callable[[Connection], Found]) -> Found:
        """Begin, work, commit; after a fault nothing has happened, unless `unsure`, and the connection is given up.

        Raises what SQLAlchemy, the driver or `work` raise. Is not bounded in time.
        """

    def abandon(self) -> None:
        """Let a transaction that hangs go its way; the next one gets a connection of its own."""

    async def close(self) -> None:
        """Give up the connection."""


def transactions_on(engine: AsyncEngine, busy_timeout_s: float) -> Transactions:
    """Those that suit the database; on SQLite one waits for other writers for `busy_timeout_s`."""
    if engine.dialect.name == "sqlite":
        return ThreadTransactions(engine, busy_timeout_s)
    return AsyncTransactions(engine)


class AsyncTransactions:
    """For databases behind a network."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = writing(engine)
        self._connection: AsyncConnection | None = None
        self.unsure = False

    @property
    def stale(self) -> bool:
        """See `Transactions.stale`."""
        return self._connection is not None

    async def run(self, work: Callable[[Connection], Found]) -> Found:
        """See `Transactions.run`."""
        self.unsure = False
        connection = self._connection
        if connection is None:
            connection = self._connection = await self._engine.connect()
        try:
            async with connection.begin():
                found = await connection.run_sync(work)
                self.unsure = True
        except BaseException:
            await self._give_up(connection)
            raise
        return found

    def abandon(self) -> None:
        """See `Transactions.abandon`."""
        self._connection = None

    async def close(self) -> None:
        """See `Transactions.close`."""
        if self._connection is not None:
            await self._give_up(self._connection)

    async def _give_up(self, connection: AsyncConnection) -> None:
        if self._connection is connection:
            self._connection = None
        with suppress(SQLAlchemyError, OSError):
            await connection.invalidate()
            await connection.close()


class ThreadTransactions:
    """For SQLite."""

    def __init__(self, engine: AsyncEngine, busy_timeout_s: float) -> None:
        self._twin = blocking_twin(engine, busy_timeout_s).execution_options(writing=True)
        self._thread = ThreadPoolExecutor(1, "budgets")
        self._connection: Connection | None = None
        self.unsure = False

    @property
    def stale(self) -> bool:
        """A file does not break off."""
        return False

    async def run(self, work: Callable[[Connection], Found]) -> Found:
        """See `Transactions.run`."""
        self.unsure = False
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    def abandon(self) -> None:
        """A thread can't be left: the next transaction waits for this one, which waits for a lock, not for ever."""

    async def close(self) -> None:
        """See `Transactions.close`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def _run(self, work: Callable[[Connection], Found]) -> Found:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._twin.connect()
        try:
            with connection.begin():
                found = work(connection)
                self.unsure = True
        except BaseException:
            self._close()
            raise
        return found

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        with suppress(SQLAlchemyError, OSError):
            if connection is not None:
                connection.invalidate()
                connection.close()
            self._twin.dispose()
