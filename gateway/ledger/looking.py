"""A connection for questions to large tables: planned anew for what is asked each time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.ledger.faults import asking

# PostgreSQL plans a statement that comes again for any value there may be, from its sixth time on: with a rare one it
# then reads a million rows to find ten. Compiling takes longer than these questions do.
_SETTINGS: Final = select(
    func.set_config("plan_cache_mode", "force_custom_plan", True), func.set_config("jit", "off", True)
)


@asynccontextmanager
async def looking(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """For reading, within one transaction. Raises `DatabaseUnavailable`."""
    with asking():
        async with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                await connection.execute(_SETTINGS)
            yield connection
