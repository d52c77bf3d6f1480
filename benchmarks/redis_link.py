"""What one Redis command costs: our link beside redis-py's asyncio client, CPU microseconds and calls a second.

    python -m benchmarks.redis_link [--redis-url redis://...] [--callers 32] [--calls 10000] [--rounds 7] [--json]

Rounds of both take turns on one event loop (uvloop); the median counts. CPU is that of this process. Without a URL a
Redis of our own is started. redis-py runs with hiredis and a pool that never makes callers wait.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import uvloop
from redis.asyncio import Redis

from benchmarks.gateway.machine import facts
from benchmarks.redis_server import redis_url
from gateway.redis_link import RedisLink

Call = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians of one client."""

    client: str
    cpu_us: float
    calls_per_s: float


async def burst(call: Call, callers: int, calls: int) -> tuple[float, float]:
    """CPU microseconds a call, and calls a second, while so many callers ask one call after the other."""

    async def ask() -> None:
        for _ in range(calls // callers):
            await call("GET", "fingerpost-benchmark")

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(callers)))
    cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - wall
    return cpu_s / calls * 1e6, calls / wall_s


async def compare(url: str, callers: int, calls: int, rounds: int) -> Sequence[Figures]:
    """Both clients, in turns."""
    link = RedisLink(url)
    await link.start()
    client = Redis.from_url(url)
    contestants: dict[str, Call] = {"RedisLink": link.call, "redis.asyncio": client.execute_command}
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            seen[name].append(await burst(call, callers, calls))
    await client.aclose()
    await link.close()
    return [Figures(name, *map(median, zip(*found, strict=True))) for name, found in seen.items()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--redis-url")
    parser.add_argument("--callers", type=int, default=32)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with redis_url(options.redis_url) as url:
        found = uvloop.run(compare(url, options.callers, options.calls, options.rounds))
    if options.json:
        print(json.dumps({"machine": facts(), "clients": [asdict(one) for one in found]}, indent=2))
        return
    for one in found:
        print(f"{one.client:16}{one.cpu_us:8.1f} us CPU a call {one.calls_per_s:10.0f} calls/s")


if __name__ == "__main__":
    main()
