"""An answer on its way to its client: put aside to be kept once it is whole, and shared as it comes with who waits."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import uuid4

from gateway.cache.asked import Asked
from gateway.cache.base import Stored
from gateway.cache.broadcast import Broadcast
from gateway.cache.complete import Collector
from gateway.cache.flights import Flight
from gateway.ledger.record import Record
from policies.schema import Policy
from routers.decision import Query

log = logging.getLogger(__name__)


class Keeps(Protocol):
    """Who makes of an answer what is stored, and stores it."""

    counts: Counter[str]

    def made(self, asked: Asked, query: Query, record: Record, body: bytes) -> Stored | None:
        """An answer as it is stored; None where it expires at once."""

    def keep(self, stored: Stored, policy: Policy) -> asyncio.Future[bool] | None:
        """Store it; the future tells whether it is. None: it is not even tried."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A stream for several: its frames, who waits for them, and which payer's only may hear them (None: anybody's)."""

    cast: Broadcast
    flight: Flight
    payer: str | None


class Keeping:
    """One answer; leads those who wait for the same."""

    def __init__(self, cache: Keeps, asked: Asked, query: Query) -> None:
        self._cache = cache
        self._asked = asked
        self._query = query
        self._collector: Collector | None = None
        self._cast: Broadcast | None = None

    def shared(self, record: Record, dialect: str, *, bounded: bool) -> Shared | None:
        """How others come along with this stream; None where all have to wait for the whole answer.

        What has been said to them can't be taken back, so what can be known beforehand is known here. One that is
        `bounded` by a hard budget may be cut where that ends (only then does the gateway cut an answer): nobody hears
        it but who pays from the same budgets, whose own would be cut there too, and it says so to them as well. One in
        another dialect than chat may say what chat can't. Whatever else an answer is not kept for shows only at its
        end: it was cut at a length, filtered, empty, too long. It is passed on as it is, with its own finish reason.
        """
        asked, flight = self._asked, self._asked.flight
        if flight is None or not asked.request.stream or dialect != "chat":
            return None
        asked.promised_id = uuid4().hex
        promised = Stored(
            id=asked.promised_id,
            tenant=asked.tenant,
            partition=asked.partition,
            exact=asked.exact,
            category=self._query.category,
            body=b"",
            model=record.model or "",
            endpoint=record.endpoint or "",
            created_s=0.0,
            expires_s=0.0,
        )
        self._cast = Broadcast(promised)
        return Shared(self._cast, flight, asked.streams if bounded else None)

    def goes_on(self) -> None:
        """The client has left, but others hear it."""
        self._cache.counts["heard_on"] += 1

    def feed(self, frame: bytes, dialect: str = "chat") -> None:
        """A frame as the client sees it."""
        if self._cast is not None:
            self._cast.add(frame)
        if self._collector is None:
            self._collector = Collector(dialect, self._asked.request.stream)
        self._collector.feed(frame)
        if self._collector.gave_up:
            self._asked.release()

    def done(self, record: Record, *, length_is_own: bool = False, ended_well: bool | None = None) -> None:
        """All frames were there, or will not come. `ended_well`, where the record's status is about something else."""
        well = record.status == 200 if ended_well is None else ended_well
        stored, arriving = None, None
        try:
            stored = self._stored(record, length_is_own) if well else None
            if stored is not None:
                arriving = self._cache.keep(stored, self._asked.policy)
        except Exception:
            log.exception("the answer to %s could not be kept", record.id)
        if self._cast is not None:
            self._cast.made = stored or _as_it_was(self._cast.promised, record)
            self._cast.is_cut = bool(record.budget_exhausted)
        if stored is None and well:
            self._asked.release()
        else:
            self._asked.land(stored, arriving)

    def _stored(self, record: Record, length_is_own: bool) -> Stored | None:
        if self._collector is None or record.budget_exhausted:
            return None
        tokens = record.input_tokens or 0, record.output_tokens or 0
        body = self._collector.whole(length_is_own=length_is_own, tokens=tokens)
        return self._cache.made(self._asked, self._query, record, body) if body is not None else None


def _as_it_was(promised: Stored, record: Record) -> Stored:
    """An answer that is not kept."""
    return replace(
        promised,
        input_tokens=record.input_tokens or 0,
        output_tokens=record.output_tokens or 0,
        cost_nanousd=record.cost_nanousd or 0,
    )
