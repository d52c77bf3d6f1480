"""Worker and sampler processes for trials of the gauges under load: simulated streams against one real store.

`python -m tests.integration.admission.streams work|sample ...`; started by `trial.py`, with a store chosen by URL.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gateway.admission.gauges import Demand, Gauges, GaugesUnavailable, Granted, Level, Settlement
from gateway.admission.redis_gauges import RedisGauges
from gateway.admission.rules import Budget, Period, RateLimit, Rules, Scope, Window, WindowKind
from gateway.admission.spend_book import SpendBook
from gateway.admission.sql_gauges import SqlGauges
from gateway.ledger.engine import open_engine
from gateway.redis_link import RedisLink

USD = 1_000_000_000
TEAMS = 2
KEYS = 6
MOST_NANOUSD = USD // 50


@dataclass(frozen=True, slots=True)
class Plan:
    """One worker's task. `limit_nanousd` is the organisation's budget; each team has 60% of it, each key 30%.

    It goes on for `seconds`, and longer until it is told that it is enough, by the end of its input.
    """

    url: str
    run: str
    limit_nanousd: int
    journal: str = ""
    streams: int = 200
    seconds: float = 6.0
    chunk_s: float = 0.05
    lease_s: float = 3.0
    seed: int = 0


@dataclass(slots=True)
class Tally:
    """What one worker saw."""

    granted: int = 0
    refused: int = 0
    extended: int = 0
    cut: int = 0
    aborted: int = 0
    settled: int = 0
    unavailable: int = 0
    admit_ms: list[float] = field(default_factory=list)


@asynccontextmanager
async def open_gauges(url: str, lease_s: float = 60.0) -> AsyncIterator[Gauges]:
    """The store behind a URL, started, and drained in the end: `redis://...`, or a database that has its tables."""
    gauges, close = _redis(url, lease_s) if url.startswith(("redis://", "unix://")) else _sql(url, lease_s)
    await gauges.start()
    try:
        yield gauges
    finally:
        await gauges.drain(10)
        await close()


def _sql(url: str, lease_s: float) -> tuple[Gauges, Callable[[], Awaitable[None]]]:
    engine = open_engine(url)
    return SqlGauges(engine, lease_s=lease_s), engine.dispose


def _redis(url: str, lease_s: float) -> tuple[Gauges, Callable[[], Awaitable[None]]]:
    """`redis://...#sqlite:///...`: the store, and the database that keeps the durable copy."""
    redis_url, _, database_url = url.partition("#")
    engine, link = open_engine(database_url), RedisLink(redis_url, timeout_s=1.0)

    async def close() -> None:
        await link.close()
        await engine.dispose()

    return RedisGauges(link, SpendBook(engine), lease_s), close


def budgets(run: str, limit_nanousd: int) -> dict[str, Budget]:
    """All budgets of a run by their name, three levels with a window of each kind, and a soft one."""
    month = Window(WindowKind.CALENDAR, period=Period.MONTH)
    hour = Window(WindowKind.ROLLING, seconds=3_600)
    found = {"all": Budget(f"{run}-all", Scope.ORGANISATION, "o", limit_nanousd)}
    for team in range(TEAMS):
        limit = limit_nanousd * 6 // 10
        found[f"team{team}"] = Budget(f"{run}-team{team}", Scope.TEAM, str(team), limit, month)
    for key in range(KEYS):
        limit = limit_nanousd * 3 // 10
        found[f"key{key}"] = Budget(f"{run}-key{key}", Scope.KEY, str(key), limit, hour)
    found["tag"] = Budget(f"{run}-tag", Scope.TAG, "t", limit_nanousd // 10, hard=False)
    return found


def rules_of(run: str, limit_nanousd: int, key: int) -> Rules:
    """What bounds one key: its own budget, its team's, the organisation's, a soft one, and a wide rate limit."""
    known = budgets(run, limit_nanousd)
    chain = (known[f"key{key}"], known[f"team{key % TEAMS}"], known["all"], known["tag"])
    return Rules(chain, (RateLimit(f"{run}-limit{key}", Scope.KEY, str(key), 10**7, 10**9, 10**5),))


class Worker:
    """Keeps `streams` simulated streams going at once, and writes down each promise before it is made or given up."""

    def __init__(self, plan: Plan, gauges: Gauges) -> None:
        self._plan = plan
        self._gauges = gauges
        self._random = random.Random(plan.seed)
        self._rules = [rules_of(plan.run, plan.limit_nanousd, key) for key in range(KEYS)]
        self._journal = os.open(plan.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._running: set[str] = set()
        self._until = time.monotonic() + plan.seconds
        self._enough = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        self.tally = Tally()

    async def run(self) -> None:
        """Until the time is over and every stream has ended."""
        renewing = asyncio.create_task(self._renew())
        await asyncio.gather(*(self._streams(number) for number in range(self._plan.streams)))
        renewing.cancel()
        await asyncio.wait({renewing})
        os.close(self._journal)

    async def _streams(self, number: int) -> None:
        count = 0
        while time.monotonic() < self._until or not self._enough.done():
            count += 1
            await self._stream(f"{self._plan.run}-{self._plan.seed}-{number}-{count}")

    async def _stream(self, lease_id: str) -> None:
        reserved = self._random.randint(1, MOST_NANOUSD)
        demand = Demand(self._random.choice(self._rules), reserved, 100)
        begun = time.perf_counter()
        try:
            answer = await self._gauges.admit(lease_id, demand)
        except GaugesUnavailable:
            self.tally.unavailable += 1
            await asyncio.sleep(0.1)
            return
        self.tally.admit_ms.append((time.perf_counter() - begun) * 1e3)
        if not isinstance(answer, Granted):
            self.tally.refused += 1
            await asyncio.sleep(self._random.random() * 0.2)
            return
        self.tally.granted += 1
        self._running.add(lease_id)
        cost = await self._chunks(lease_id, demand)
        self._write("settled", lease_id, cost)
        self._gauges.settle(Settlement(lease_id, demand, cost, 90))
        self._running.discard(lease_id)

    async def _chunks(self, lease_id: str, demand: Demand) -> int:
        """The stream itself: it extends its reservation a few times and costs a part of it; some clients leave."""
        reserved = demand.cost_nanousd
        for _ in range(self._random.randint(1, 5)):
            await asyncio.sleep(self._random.random() * self._plan.chunk_s)
            if self._random.random() < 0.1:
                self.tally.aborted += 1
                return self._random.randint(0, reserved // 4)
            more = self._random.randint(1, MOST_NANOUSD // 4)
            try:
                extended = await self._gauges.extend(lease_id, demand, more)
            except GaugesUnavailable:
                self.tally.unavailable += 1
                extended = False
            if not extended:
                self.tally.cut += 1
                return reserved
            self.tally.extended += 1
            reserved += more
        self.tally.settled += 1
        return self._random.randint(reserved // 2, reserved)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._plan.lease_s / 3)
            try:
                await self._gauges.renew(tuple(self._running))
            except GaugesUnavailable:
                self.tally.unavailable += 1

    def _write(self, what: str, lease_id: str, amount: int) -> None:
        """At once, so that it is known also after SIGKILL."""
        os.write(self._journal, f"{what} {lease_id} {amount}\n".encode())


@dataclass(slots=True)
class Sampled:
    """What the sampler saw: how often it looked, the largest share of a hard budget in use, and what was over it."""

    samples: int = 0
    fullest: float = 0.0
    over: list[str] = field(default_factory=list)

    def note(self, levels: Sequence[Level]) -> None:
        """One look."""
        for level in levels:
            used = level.spent_nanousd + level.reserved_nanousd
            if level.budget.hard:
                self.fullest = max(self.fullest, used / level.budget.limit_nanousd)
            if level.budget.hard and used > level.budget.limit_nanousd:
                self.over.append(f"{level.budget.id}: {used} of {level.budget.limit_nanousd}")
        self.samples += 1


async def sample(plan: Plan) -> Sampled:
    """Read spent + reserved of every budget, over and over, until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    known = tuple(budgets(plan.run, plan.limit_nanousd).values())
    seen = Sampled()
    async with open_gauges(plan.url, plan.lease_s) as gauges:
        print("ready", flush=True)
        while not stop.is_set():
            with suppress(GaugesUnavailable):  # the store is as busy as the workers can make it
                seen.note(await gauges.levels(known))
            await asyncio.sleep(0.002)
    return seen


async def work(plan: Plan) -> Tally:
    """One worker process."""
    async with open_gauges(plan.url, plan.lease_s) as gauges:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        worker = Worker(plan, gauges)
        await worker.run()
    return worker.tally


def main(arguments: Sequence[str]) -> None:
    """Run one role and print what it saw as one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=("work", "sample"))
    parser.add_argument("plan", type=Path)
    asked = parser.parse_args(arguments)
    plan = Plan(**json.loads(asked.plan.read_text()))
    seen: Tally | Sampled
    seen = asyncio.run(work(plan)) if asked.role == "work" else asyncio.run(sample(plan))
    print(json.dumps(asdict(seen)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
