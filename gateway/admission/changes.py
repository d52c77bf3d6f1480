"""Hears of what admins change in the shared database, within a fraction of a second, in every process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from sqlalchemy import Row, Select, bindparam, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.ledger.acts import EVERYTHING, Change
from gateway.ledger.faults import describe, is_away
from gateway.ledger.tables import change

log = logging.getLogger(__name__)

EVERY_S: Final = 0.2
TIMEOUT_S: Final = 2.0
PAGE_ROWS: Final = 500
# Built once: it is executed five times a second.
_NEWER: Final = (
    select(change.c.id, change.c.what, change.c.subject)
    .where(change.c.id > bindparam("last"))
    .order_by(change.c.id)
    .limit(PAGE_ROWS)
)
_NEWEST: Final = select(func.max(change.c.id))
OnChange = Callable[[Sequence[Change]], Awaitable[None]]


class ChangeFeed:
    """Asks one connection of its own for newer rows, and hands them to `on_change` in their order.

    Whenever something may have been missed (at the start, after an outage, where rows are gone already) it says
    `EVERYTHING`. Where `on_change` raises `OSError`, because it needs the database too, the same is said again.
    """

    def __init__(
        self, engine: AsyncEngine, on_change: OnChange, every_s: float = EVERY_S, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._engine = engine
        self._on_change = on_change
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._connection: AsyncConnection | None = None
        self._last = 0
        self._asking = asyncio.Lock()
        self._complained = False

    async def run(self) -> None:
        """Listen until cancelled."""
        try:
            while True:
                await self.poll()
                await asyncio.sleep(self._every_s)
        finally:
            await self._hang_up()

    async def poll(self) -> bool:
        """Ask once, now; False where the database does not answer. May be called beside `run`."""
        async with self._asking:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._hear()
            except asyncio.CancelledError:
                await self._hang_up()
                raise
            except Exception as error:
                await self._hang_up()
                if not self._complained:
                    # With the trace where it is no outage: a feed that ends would let revoked keys in.
                    away = is_away(error)
                    log.error("changes that admins make are not heard: %s", describe(error), exc_info=not away)
                self._complained = True
                return False
        self._complained = False
        return True

    async def _hear(self) -> None:
        if self._connection is None:
            self._connection = await self._engine.connect()
            newest = await _rows(self._connection, _NEWEST, {})
            self._last = newest[0][0] or 0
            await self._on_change([Change(EVERYTHING)])
            return
        rows = await _rows(self._connection, _NEWER, {"last": self._last})
        if rows:
            missed = [Change(EVERYTHING)] if rows[0].id != self._last + 1 else []
            await self._on_change([*missed, *(Change(row.what, row.subject) for row in rows)])
            self._last = rows[-1].id

    async def _hang_up(self) -> None:
        """Let go of the connection for good: what broke once is not to be used by others."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await connection.invalidate()
                await connection.close()
        except (SQLAlchemyError, OSError) as error:
            log.debug("hanging up: %s", describe(error))


async def _rows(connection: AsyncConnection, statement: Select[Any], values: dict[str, int]) -> Sequence[Row[Any]]:
    async with connection.begin():
        rows: Sequence[Row[Any]] = (await connection.execute(statement, values)).all()
        return rows
