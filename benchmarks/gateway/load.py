"""Closed-loop and open-loop load by our own client, and what came of it; knows nothing of who is being measured.

Closed loop: N connections, each sends as soon as it has its answer (finds capacity). Open loop: requests leave at
planned times whatever happens, and latency counts from the planned time, so a slow server cannot hide its queue.
"""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.gateway.client import ClientConnection, Exchange, Target, connect
from benchmarks.gateway.clock import Alarm, schedule

_RETRY_CONNECT_S = 0.05


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of an ascending sequence: the smallest value that `share` of all do not exceed."""
    if not ordered:
        raise ValueError("no values")
    if not 0 <= share <= 1:
        raise ValueError("share must be between 0 and 1")
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles of a set of times, in milliseconds."""

    count: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of_seconds(cls, seconds: Sequence[float]) -> Spread | None:
        """None where there is nothing to describe."""
        if not seconds:
            return None
        ordered = sorted(seconds)
        p50, p90, p99 = (percentile(ordered, share) * 1e3 for share in (0.5, 0.9, 0.99))
        return cls(len(ordered), p50, p90, p99, ordered[-1] * 1e3)


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What one phase of load saw. `requests` counts good answers only; `errors` counts the others by kind."""

    tool: str
    requests: int
    wall_s: float
    errors: dict[str, int]
    latency: Spread | None
    first_event: Spread | None = None
    gap: Spread | None = None
    sent_late: Spread | None = None

    @property
    def per_s(self) -> float:
        """Good answers per second."""
        return self.requests / self.wall_s if self.wall_s else 0.0


@dataclass(slots=True)
class Tally:
    """Collects exchanges. `chunks` is how many events a good stream has at least (0: not a stream)."""

    chunks: int = 0
    latency_s: array[float] = field(default_factory=lambda: array("d"))
    first_s: array[float] = field(default_factory=lambda: array("d"))
    gaps_s: array[float] = field(default_factory=lambda: array("d"))
    late_s: array[float] = field(default_factory=lambda: array("d"))
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, exchange: Exchange, intended_s: float) -> None:
        """Count one exchange that should have been sent at `intended_s`."""
        wrong = verdict(exchange, self.chunks)
        if wrong:
            self.errors[wrong] += 1
            return
        self.latency_s.append(exchange.ended_s - intended_s)
        self.late_s.append(exchange.sent_s - intended_s)
        if self.chunks:
            self.first_s.append(exchange.first_body_s - intended_s)
            self.gaps_s.extend(exchange.gaps_s)

    def result(self, tool: str, wall_s: float) -> LoadResult:
        """Sum up; lateness of the generator is given only where times were planned."""
        return LoadResult(
            tool=tool,
            requests=len(self.latency_s),
            wall_s=wall_s,
            errors=dict(self.errors),
            latency=Spread.of_seconds(self.latency_s),
            first_event=Spread.of_seconds(self.first_s),
            gap=Spread.of_seconds(self.gaps_s),
            sent_late=Spread.of_seconds(self.late_s) if any(self.late_s) else None,
        )


def verdict(exchange: Exchange, chunks: int) -> str:
    """Why an exchange does not count as a good answer ("" if it does)."""
    if exchange.error:
        return exchange.error
    if exchange.status != 200:
        return f"status {exchange.status}"
    if chunks and exchange.done_events != 1:
        return f"{exchange.done_events} [DONE] events"
    if chunks and exchange.events < chunks + 1:
        return "events missing"
    return ""


async def closed_loop(
    target: Target,
    connections: int,
    *,
    seconds: float = math.inf,
    requests: float = math.inf,
    chunks: int = 0,
    timeout_s: float = 60.0,
    ramp_s: float = 0.0,
) -> LoadResult:
    """Keep `connections` requests in flight for `seconds` or until `requests` were sent; waits for the last answers.

    The first requests are spread over `ramp_s`, so that what is measured is many at once and not many starts at once.
    """
    tally = Tally(chunks)
    began_s = time.monotonic()
    budget = _Budget(requests, began_s + seconds)
    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            delay_s = ramp_s * number / connections
            group.create_task(_keep_one_in_flight(target, budget, tally, timeout_s, delay_s))
    return tally.result("closed loop", time.monotonic() - began_s)


@dataclass(slots=True)
class _Budget:
    requests: float
    until_s: float

    def take(self) -> bool:
        self.requests -= 1
        return self.requests >= 0 and time.monotonic() < self.until_s


async def _keep_one_in_flight(target: Target, budget: _Budget, tally: Tally, timeout_s: float, delay_s: float) -> None:
    request = target.request()
    if delay_s:
        await asyncio.sleep(delay_s)
    connection: ClientConnection | None = None
    while budget.take():
        if connection is None or not connection.usable:
            connection = await connect(target)
        if connection is None:
            tally.errors["no connection"] += 1
            await asyncio.sleep(_RETRY_CONNECT_S)
            continue
        exchange = await connection.exchange(request, timeout_s)
        tally.add(exchange, exchange.sent_s)
    if connection is not None:
        connection.close()


async def open_loop(
    target: Target,
    rate_per_s: float,
    seconds: float,
    *,
    chunks: int = 0,
    max_connections: int = 512,
    timeout_s: float = 60.0,
) -> LoadResult:
    """Send at a constant rate for `seconds`; a request that finds no free connection waits, and the wait counts."""
    tally = Tally(chunks)
    pool = _Pool(target, max_connections)
    # Connections are opened before the clock starts: their handshakes are not what is measured.
    await pool.warm(min(max_connections, 32))
    began_s = time.monotonic() + 0.05
    with Alarm() as alarm:
        async with asyncio.TaskGroup() as group:
            for offset in schedule(rate_per_s, seconds):
                await alarm.wait_until(began_s + offset)
                group.create_task(_send_planned(pool, began_s + offset, tally, timeout_s))
    pool.close()
    return tally.result("open loop", time.monotonic() - began_s)


async def _send_planned(pool: _Pool, intended_s: float, tally: Tally, timeout_s: float) -> None:
    async with pool.slots:
        connection = await pool.take()
        if connection is None:
            tally.errors["no connection"] += 1
            return
        tally.add(await connection.exchange(pool.request, timeout_s), intended_s)
        pool.give_back(connection)


class _Pool:
    """Idle connections, the most recently used first."""

    def __init__(self, target: Target, limit: int) -> None:
        self.request = target.request()
        self.slots = asyncio.Semaphore(limit)
        self._target = target
        self._idle: list[ClientConnection] = []

    async def warm(self, count: int) -> None:
        """Open connections ahead of need."""
        opened = [await connect(self._target) for _ in range(count)]
        self._idle.extend(connection for connection in opened if connection is not None)

    async def take(self) -> ClientConnection | None:
        """An idle connection that still stands, or a new one, or None."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return await connect(self._target)

    def give_back(self, connection: ClientConnection) -> None:
        """Keep a connection for the next request."""
        if connection.usable:
            self._idle.append(connection)

    def close(self) -> None:
        """Drop what is idle."""
        for connection in self._idle:
            connection.close()
