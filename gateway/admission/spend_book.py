"""The durable copy in SQL of what budgets have spent, for stores that may lose their data.

Knows sums by budget and bucket of time; no rule, no lease, no store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from sqlalchemy import Delete, Select, and_, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.ledger.engine import writing
from gateway.ledger.faults import DatabaseUnavailable, asking
from gateway.ledger.tables import budget_spend

Sums = dict[tuple[str, int], int]

FLUSH_S: Final = 1.0
WRITE_TIMEOUT_S: Final = 5.0
_SLICE: Final = 200

_log: Final = logging.getLogger("fingerpost.budgets")


class SpendBook:
    """Adds in memory, writes the sums to `budget_spend` every second in one transaction; one per process.

    While the database is away the sums wait in memory, one number for each budget and bucket. A process that is
    killed loses what it has added since the last flush. Where the answer to a commit is lost the sums are written
    again, so that a second's spending may count twice but is never forgotten. The caller disposes of the engine,
    after `drain`.
    """

    def __init__(self, engine: AsyncEngine, flush_s: float = FLUSH_S) -> None:
        self._engine = engine
        self._insert = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert
        self._flush_s = flush_s
        self._sums: Sums = {}
        self._old: dict[str, int] = {}
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._up = True

    def add(self, budget_id: str, bucket_start: int, nanousd: int) -> None:
        """More was spent (or, where negative, less than was charged); never waits, never raises."""
        key = (budget_id, bucket_start)
        self._sums[key] = self._sums.get(key, 0) + nanousd

    def forget(self, budget_id: str, before: int) -> None:
        """Buckets that began before this second are of no use to anybody; they go with the next flush."""
        self._old[budget_id] = before

    async def read(self, wanted: Mapping[str, int]) -> dict[str, dict[int, int]]:
        """What was spent, by budget and bucket, from the bucket on that is named for each budget.

        What this process has added is in it; what other processes added is once they have flushed it.
        Raises `DatabaseUnavailable`.
        """
        found: dict[str, dict[int, int]] = {budget_id: {} for budget_id in wanted}
        async with self._writing:
            for budget_id, bucket, spent in await self._rows(list(wanted.items())):
                found[budget_id][bucket] = spent
            for (budget_id, bucket), more in self._sums.items():
                if bucket >= wanted.get(budget_id, bucket + 1):
                    found[budget_id][bucket] = found[budget_id].get(bucket, 0) + more
        return found

    async def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="spend-book")

    async def drain(self, timeout_s: float) -> None:
        """Write what is left, within `timeout_s`; what the database does not take is logged and lost."""
        task, self._task = self._task, None
        if task is not None:
            # Not in the middle of a commit, whose sums would then be written again.
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s), self._writing:
                    task.cancel()
            task.cancel()
            await asyncio.wait({task})
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.flush()
        if self._sums:
            _log.error("budgets: %d sums of spending could not be written: %s", len(self._sums), dict(self._sums))

    async def flush(self) -> bool:
        """Write the sums now; False where the database is away (they are kept)."""
        async with self._writing:
            sums, self._sums = self._sums, {}
            old, self._old = self._old, {}
            try:
                with asking():
                    async with asyncio.timeout(WRITE_TIMEOUT_S):
                        await self._write(sums, old)
            except DatabaseUnavailable as error:
                self._keep(sums, old)
                self._tell(up=False, reason=str(error))
                return False
            except BaseException:
                self._keep(sums, old)
                raise
            self._tell(up=True)
            return True

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._flush_s)
            if self._sums or self._old:
                await self.flush()

    async def _write(self, sums: Sums, old: Mapping[str, int]) -> None:
        if not sums and not old:
            return
        # In one order, so that two processes never wait for each other's rows.
        rows = [
            {"budget_id": budget_id, "bucket_start": bucket, "spent_nanousd": nanousd}
            for (budget_id, bucket), nanousd in sorted(sums.items())
        ]
        async with writing(self._engine).begin() as connection:
            for part in _slices(rows):
                await self._upsert(connection, part)
            for pairs in _slices(sorted(old.items())):
                await connection.execute(_forgetting(pairs))

    async def _upsert(self, connection: AsyncConnection, rows: Sequence[dict[str, Any]]) -> None:
        statement = self._insert(budget_spend).values(list(rows))
        total = budget_spend.c.spent_nanousd + statement.excluded.spent_nanousd
        keys = [budget_spend.c.budget_id, budget_spend.c.bucket_start]
        await connection.execute(
            statement.on_conflict_do_update(index_elements=keys, set_={"spent_nanousd": total}),
        )

    async def _rows(self, wanted: Sequence[tuple[str, int]]) -> list[tuple[str, int, int]]:
        rows: list[tuple[str, int, int]] = []
        with asking():
            async with asyncio.timeout(WRITE_TIMEOUT_S), self._engine.connect() as connection:
                for pairs in _slices(wanted):
                    found = await connection.execute(_asking_for(pairs))
                    rows += [(row.budget_id, row.bucket_start, row.spent_nanousd) for row in found]
        return rows

    def _keep(self, sums: Sums, old: Mapping[str, int]) -> None:
        for (budget_id, bucket), nanousd in sums.items():
            self.add(budget_id, bucket, nanousd)
        self._old = {**old, **self._old}

    def _tell(self, up: bool, reason: str = "") -> None:
        if up != self._up:
            self._up = up
            _log.warning("budgets: %s", "spending is written again" if up else f"spending waits in memory ({reason})")


def _slices(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (rows[start : start + _SLICE] for start in range(0, len(rows), _SLICE))


def _asking_for(pairs: Sequence[tuple[str, int]]) -> Select[Any]:
    table = budget_spend.c
    return select(budget_spend).where(
        or_(*(and_(table.budget_id == budget_id, table.bucket_start >= first) for budget_id, first in pairs))
    )


def _forgetting(pairs: Sequence[tuple[str, int]]) -> Delete:
    table = budget_spend.c
    return delete(budget_spend).where(
        or_(*(and_(table.budget_id == budget_id, table.bucket_start < before) for budget_id, before in pairs))
    )
