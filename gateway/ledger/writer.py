"""The ledger in SQL: a bounded queue in memory, one task that stores it, and a spool while the database is away.

Never in a request's way; must not know what a request was, only records.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.base import Stats
from gateway.ledger.inserts import DatabaseAway, Inserter
from gateway.ledger.record import Entry, Record
from gateway.ledger.rejected import put_aside
from gateway.ledger.rows import Row, RowError, columns_of, from_line, to_line, to_rows
from gateway.ledger.spool import MAX_BYTES, Spool

_log: Final = logging.getLogger("fingerpost.ledger")
_YIELD_ROWS: Final = 50


@dataclass(frozen=True, slots=True)
class Pace:
    """Bounds and rhythm: the queue in records and in characters of prompts and answers, batches, waits in seconds."""

    max_queue: int = 20_000
    max_queue_chars: int = 64 * 1024 * 1024
    batch_rows: int = 1_000
    flush_s: float = 0.2
    write_timeout_s: float = 5.0
    first_retry_s: float = 0.5
    last_retry_s: float = 5.0
    idle_check_s: float = 10.0


class LedgerWriter:
    """`Ledger` over an engine and a folder for spool and rejects, for one event loop.

    The caller disposes of the engine, after `drain`.

    While the database is away, records go to the spool; when it is back they are written in their order, beside
    the new ones. A record is dropped, and counted, only where queue or spool are over their bounds.
    """

    def __init__(
        self, engine: AsyncEngine, folder: Path, *, spool_max_bytes: int = MAX_BYTES, pace: Pace | None = None
    ) -> None:
        self._pace = pace or Pace()
        self._inserter = Inserter(engine, self._pace.write_timeout_s)
        self._spool = Spool(folder, spool_max_bytes)
        self._rejected_path = folder / "rejected.jsonl"
        self._queue: deque[Entry] = deque()
        self._chars = 0
        self._in_hand: Sequence[Entry] = ()
        self._wake = asyncio.Event()
        self._closing = self._closed = False
        self._task: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._up = True
        self._retry_s = self._pace.first_retry_s
        self._probe_at = 0.0
        self._written = self._spooled = self._rejected = self._dropped = self._torn = 0

    def put(self, record: Entry) -> None:
        """Hand over a finished record; never waits, never raises; over the queue's bounds it is dropped and counted."""
        queue = self._queue
        if len(queue) >= self._pace.max_queue or self._chars > self._pace.max_queue_chars or self._closed:
            self._dropped += 1
            return
        if type(record) is Record and (record.prompt is not None or record.answer is not None):
            self._chars += _text_size(record)
        queue.append(record)
        if len(queue) == self._pace.batch_rows:
            self._wake.set()

    async def start(self) -> None:
        """Open the spool, adopt what dead processes left, look for the database without waiting for it."""
        await asyncio.to_thread(self._spool.open)
        self._task = asyncio.create_task(self._run(), name="ledger-writer")

    async def drain(self, timeout_s: float) -> None:
        """Store everything: what the database has not taken within `timeout_s` stays in the spool for the next process.

        May take 2 seconds more, where a connection that hangs has to be broken off.
        """
        self._closing = True
        self._wake.set()
        if self._task is None:
            return
        task, self._task = self._task, None
        await asyncio.wait({task}, timeout=timeout_s)
        await _end(task)
        await _end(self._probe)
        self._closed = True
        await self._to_spool(await self._rows([*self._in_hand, *self._take(len(self._queue))]))
        self._in_hand = ()
        await asyncio.to_thread(self._spool.close)

    def stats(self) -> Stats:
        """The figures as they stand."""
        return Stats(
            queued=len(self._queue) + len(self._in_hand),
            written=self._written,
            spooled=self._spooled,
            spool_bytes=self._spool.bytes,
            rejected=self._rejected,
            dropped=self._dropped,
            torn=self._torn + self._spool.torn,
            database_up=self._up,
        )

    async def _run(self) -> None:
        while not (self._closing and not self._queue and (self._spool.empty or not self._up)):
            await self._pause()
            self._look_around()
            try:
                await self._store_batch()
                if self._up and not self._spool.empty:
                    await self._replay_batch()
            except Exception:  # noqa: BLE001 - a fault of our own must not end the log: it is reported, the batch kept
                _log.exception("ledger: a batch failed")
                await self._to_spool(await self._rows(self._in_hand))
                self._in_hand = ()
                await asyncio.sleep(self._pace.flush_s)

    async def _pause(self) -> None:
        """Until a batch is full or `flush_s` is over; not at all while there is more to do."""
        self._wake.clear()
        replaying = self._up and not self._spool.empty
        if self._closing or replaying or len(self._queue) >= self._pace.batch_rows:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(self._pace.flush_s):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _store_batch(self) -> None:
        self._in_hand = self._take(self._pace.batch_rows)
        if self._in_hand:
            rows = await self._rows(self._in_hand)
            if not (self._up and await self._write(rows)):
                await self._to_spool(rows)
            self._in_hand = ()

    async def _replay_batch(self) -> None:
        lines = await asyncio.to_thread(self._spool.read, self._pace.batch_rows)
        rows, torn = await asyncio.to_thread(_parse, lines)
        if await self._write(rows):
            await asyncio.to_thread(self._spool.advance)
            self._torn += torn

    async def _write(self, rows: list[Row]) -> bool:
        """Whether the database has taken care of all rows; False when it is away."""
        if not rows:
            return True
        try:
            outcome = await self._inserter.insert(rows)
        except DatabaseAway as away:
            self._go_down(str(away))
            return False
        self._written += outcome.kept
        self._retry_s = self._pace.first_retry_s
        self._probe_at = time.monotonic() + self._pace.idle_check_s
        await self._refuse([(reason, dict(zip(columns_of(row), row, strict=True))) for row, reason in outcome.refused])
        return True

    async def _to_spool(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        try:
            kept = await asyncio.to_thread(lambda: self._spool.append([to_line(row) for row in rows]))
        except OSError as error:
            _log.error("ledger: the spool cannot be written (%s): %d records are lost", error.strerror, len(rows))
            kept = 0
        self._spooled += kept
        self._dropped += len(rows) - kept

    async def _rows(self, records: Sequence[Entry]) -> list[Row]:
        """Rows of what is storable; the rest is put aside."""
        rows: list[Row] = []
        unfit: list[tuple[str, object]] = []
        for number, record in enumerate(records, 1):
            try:
                rows += to_rows(record)
            except Exception as error:  # noqa: BLE001 - one unfit record is kept aside, whatever is wrong with it
                unfit.append((f"{type(error).__name__}: {error}", record))
            if number % _YIELD_ROWS == 0:
                await asyncio.sleep(0)
        await self._refuse(unfit)
        return rows

    async def _refuse(self, refused: Sequence[tuple[str, object]]) -> None:
        if not refused:
            return
        self._rejected += len(refused)
        _log.warning("ledger: %d records put aside in %s (%s)", len(refused), self._rejected_path, refused[0][0])
        try:
            await asyncio.to_thread(put_aside, self._rejected_path, refused)
        except OSError as error:
            _log.error("ledger: rejected records are lost: %s", error.strerror)

    def _take(self, count: int) -> list[Entry]:
        queue = self._queue
        records = [queue.popleft() for _ in range(min(count, len(queue)))]
        if self._chars:
            self._chars = max(0, self._chars - sum(map(_text_size, records))) if queue else 0
        return records

    def _go_down(self, reason: str) -> None:
        if self._up:
            _log.warning("ledger: the database is away (%s); records wait on disk", reason)
        self._up = False
        self._probe_at = time.monotonic() + self._retry_s
        self._retry_s = min(self._pace.last_retry_s, self._retry_s * 2)

    def _look_around(self) -> None:
        """Ask a database that is away, or that was not needed for a while, whether it takes rows; in a task of its
        own, because a connection attempt may hang."""
        if self._probe is None:
            if time.monotonic() >= self._probe_at:
                self._probe = asyncio.create_task(self._inserter.probe(), name="ledger-probe")
        elif self._probe.done():
            probe, self._probe = self._probe, None
            error = probe.exception()
            if error is not None:
                self._go_down(str(error))
                return
            self._probe_at = time.monotonic() + self._pace.idle_check_s
            if not self._up:
                self._up = True
                _log.warning("ledger: the database is back")


def _text_size(record: Entry) -> int:
    return len(record.prompt or "") + len(record.answer or "") if isinstance(record, Record) else 0


def _parse(lines: Sequence[bytes]) -> tuple[list[Row], int]:
    rows = []
    for line in lines:
        try:
            rows.append(from_line(line))
        except RowError:
            continue
    return rows, len(lines) - len(rows)


async def _end(task: asyncio.Task[None] | None) -> None:
    """Stop a task and wait until it has stopped, whatever it says."""
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
