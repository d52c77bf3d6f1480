"""What setting money and room aside costs: CPU microseconds of admit and settle, for each store of the gauges.

    python -m benchmarks.admission [--redis-url redis://...] [--database-url postgresql://...] [--rounds 5] [--json]

Three budgets (total, monthly, rolling) and three rate limits bound every call; 32 callers admit and settle one call
after the other. Rounds of the stores take turns on one event loop (uvloop); the median counts. CPU is that of this
process with all its threads; what Redis and PostgreSQL spend is not in it. A database given by URL must be empty or
Fingerpost's; a Redis given by URL gets keys that expire.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from statistics import median

import uvloop

from benchmarks.gateway.machine import facts
from benchmarks.redis_server import redis_url
from gateway.admission.gauges import Demand, Gauges, Granted, Settlement
from gateway.admission.memory_gauges import MemoryGauges
from gateway.admission.redis_gauges import RedisGauges
from gateway.admission.rules import Budget, Period, RateLimit, Rules, Scope, Window, WindowKind
from gateway.admission.spend_book import SpendBook
from gateway.admission.sql_gauges import SqlGauges
from gateway.ledger.engine import open_engine
from gateway.ledger.schema import upgrade
from gateway.redis_link import RedisLink

COST_NANOUSD = 1_000_000
TOKENS = 500
_LOOKS = 10_000


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians of one store."""

    store: str
    cpu_us: float
    calls_per_s: float


def rules(run: str) -> Rules:
    """Wide enough never to refuse."""
    budgets = (
        Budget(f"{run}-key", Scope.KEY, "k", 10**18),
        Budget(f"{run}-team", Scope.TEAM, "t", 10**18, Window(WindowKind.CALENDAR, Period.MONTH)),
        Budget(f"{run}-organisation", Scope.ORGANISATION, "o", 10**18, Window(WindowKind.ROLLING, seconds=86_400)),
    )
    limits = (
        RateLimit(f"{run}-key", Scope.KEY, "k", 10**9, 10**12, 10**6),
        RateLimit(f"{run}-team", Scope.TEAM, "t", 10**9, 10**12, 10**6),
        RateLimit(f"{run}-model", Scope.MODEL, "m", None, 10**12, 10**6),
    )
    return Rules(budgets, limits)


async def burst(gauges: Gauges, callers: int, calls: int) -> tuple[float, float]:
    """CPU microseconds a call, and calls a second, until all is settled."""
    run = secrets.token_hex(4)
    demand = Demand(rules(run), COST_NANOUSD, TOKENS)

    async def ask(caller: int) -> None:
        for number in range(calls // callers):
            lease_id = f"{run}-{caller}-{number}"
            if not isinstance(await gauges.admit(lease_id, demand), Granted):
                raise SystemExit("a call was refused: these are not the costs of granting one")
            gauges.settle(Settlement(lease_id, demand, COST_NANOUSD // 2, TOKENS // 2))

    await gauges.levels(demand.rules.budgets)
    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(ask(caller) for caller in range(callers)))
    for _ in range(_LOOKS):
        if not any(level.reserved_nanousd for level in await gauges.levels(demand.rules.budgets)):
            break
        await asyncio.sleep(0.005)
    cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - wall
    return cpu_s / calls * 1e6, calls / wall_s


@asynccontextmanager
async def stores(redis: str, sqlite: str, databases: Sequence[str]) -> AsyncIterator[dict[str, Gauges]]:
    """All stores, started; the Redis one keeps its durable copy in SQLite."""
    async with AsyncExitStack() as closing:
        engines = {
            name: open_engine(url) for name, url in zip(("SQLite", "PostgreSQL"), (sqlite, *databases), strict=False)
        }
        for engine in engines.values():
            closing.push_async_callback(engine.dispose)
        link = RedisLink(redis, timeout_s=1.0)
        closing.push_async_callback(link.close)
        found: dict[str, Gauges] = {"memory": MemoryGauges()}
        found["Redis"] = RedisGauges(link, SpendBook(engines["SQLite"]))
        found |= {name: SqlGauges(engine, timeout_s=10.0) for name, engine in engines.items()}
        for gauges in found.values():
            await gauges.start()
            closing.push_async_callback(gauges.drain, 10.0)
        yield found


async def compare(redis: str, sqlite: str, databases: Sequence[str], options: argparse.Namespace) -> Sequence[Figures]:
    """All stores, in turns."""
    seen: dict[str, list[tuple[float, float]]] = {}
    async with stores(redis, sqlite, databases) as contestants:
        for _ in range(options.rounds):
            for name, gauges in contestants.items():
                seen.setdefault(name, []).append(await burst(gauges, options.callers, options.calls))
    return [Figures(name, *map(median, zip(*found, strict=True))) for name, found in seen.items()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--redis-url")
    parser.add_argument("--database-url", nargs=1, default=[], help="also measure this PostgreSQL database")
    parser.add_argument("--callers", type=int, default=32)
    parser.add_argument("--calls", type=int, default=6_400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with redis_url(options.redis_url) as redis, tempfile.TemporaryDirectory(prefix="fingerpost-bench-") as folder:
        sqlite = f"sqlite:///{folder}/gauges.sqlite3"
        for url in (sqlite, *options.database_url):
            upgrade(url)
        found = uvloop.run(compare(redis, sqlite, options.database_url, options))
    if options.json:
        print(json.dumps({"machine": facts(), "stores": [asdict(one) for one in found]}, indent=2))
        return
    for one in found:
        print(f"{one.store:12}{one.cpu_us:8.1f} us CPU a call {one.calls_per_s:10.0f} calls/s")


if __name__ == "__main__":
    main()
