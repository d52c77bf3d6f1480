"""The seam between the request line and the log: records go in at once, storing them is somebody else's time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gateway.ledger.record import Entry


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of one process since its start (`queued`, `spool_bytes` and `database_up`: now).

    `queued` records wait in memory; `written` rows are in the database; `spooled` went by way of the disk;
    `spool_bytes` wait there; `rejected` were refused by the database and put aside; `dropped` are lost, for want of
    room in memory and on disk; `torn` lines on disk were unreadable after a crash.
    """

    queued: int
    written: int
    spooled: int
    spool_bytes: int
    rejected: int
    dropped: int
    torn: int
    database_up: bool


class Ledger(Protocol):
    """Keeps one row for each record."""

    def put(self, record: Entry) -> None:
        """Hand over a finished record, which must not change any more. Never waits, never raises."""

    async def start(self) -> None:
        """Begin to store; works without a database. Raises `OSError` where the data folder cannot be written."""

    async def drain(self, timeout_s: float) -> None:
        """Store what was put, in the database or, where that takes too long or is away, on disk; then stop."""

    def stats(self) -> Stats:
        """The figures; costs nothing."""
