"""What the cache's stores cost: milliseconds of each call, of news to another process, and of a cold start.

    python -m benchmarks.cache_store [--redis-url redis://...] [--entries 100000] [--calls 5000] [--json]

Answers of 2 to 4 kB (as JSON, compressible) with vectors of 384 numbers; one call after the other on one event loop
(uvloop). "at capacity": each insert lets another answer go from as many as `--capacity`. "seen": from the call of put
here to the listener of another process. "cold start": until a new worker has heard of all entries; "stall" is the
longest that its event loop was busy meanwhile (CPU). Without a URL a Redis of our own is started; a given one is
flushed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import uvloop

from benchmarks.gateway.machine import facts
from benchmarks.redis_server import redis_url
from gateway.cache.base import Known, Quota, Store, Stored
from gateway.cache.memory_store import MemoryStore
from gateway.cache.redis_store import RedisStore
from gateway.redis_link import RedisLink

DIMENSIONS = 384
TENANT = "organisation:benchmark"
ROOMY = Quota(10**7, 10**12)
_WITHIN_S = 300.0
# Late answers are measured here, not given up.
_BOUND_S = 5.0
Row = dict[str, object]


@dataclass(slots=True)
class Ear:
    """A listener that notes when it heard of what."""

    at: dict[str, float] = field(default_factory=dict)
    count: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def added(self, known: Sequence[Known]) -> None:
        now = time.monotonic()
        self.count += len(known)
        self.at.update((one.id, now) for one in known)

    def dropped(self, tenant: str, ids: Sequence[str]) -> None:
        self.count -= len(ids)

    def cleared(self) -> None:
        self.count = 0
        self.ready.set()


class Answers:
    """As many different answers as wanted."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        vectors = np.random.default_rng(seed).normal(size=(256, DIMENSIONS))
        self._vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        self._words = [f"{self._chance.getrandbits(40):x}" for _ in range(400)]
        self._numbers = itertools.count()
        self._seed = seed

    def next(self) -> Stored:
        number, now_s = next(self._numbers), time.time()
        text = " ".join(self._chance.choices(self._words, k=self._chance.randrange(150, 350)))
        body = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}], "usage": {}}).encode()
        name = f"{self._seed:08x}{number:024x}"
        return Stored(
            name, TENANT, f"{number % 50:032x}", name[::-1], "general", body, "large", "large-1", now_s, now_s + 3_600,
            100, 300, self._chance.randrange(10**6), text=f"what is number {number}?",
            vector=self._vectors[number % 256], embedder="minilm",
        )  # fmt: skip


async def timed(calls: Sequence[Callable[[], Awaitable[object]]]) -> tuple[float, float]:
    """p50 and p99 in milliseconds, of calls one after the other."""
    took = []
    for call in calls:
        begun = time.perf_counter()
        await call()
        took.append(time.perf_counter() - begun)
    return quantiles(took)


def quantiles(seconds: Sequence[float]) -> tuple[float, float]:
    """p50 and p99 in milliseconds."""
    p50, p99 = np.percentile(seconds, (50, 99)) * 1e3
    return round(float(p50), 4), round(float(p99), 4)


async def calls_of(name: str, store: Store, answers: Answers, calls: int, capacity: int) -> list[Row]:
    """Each call of one store."""
    stored = [answers.next() for _ in range(calls)]
    steps: dict[str, list[Callable[[], Awaitable[object]]]] = {
        "put": [lambda one=one: store.put(one, ROOMY) for one in stored],  # type: ignore[misc]
        "exact": [lambda one=one: store.exact(TENANT, one.exact) for one in stored],  # type: ignore[misc]
        "exact, nothing there": [lambda one=one: store.exact(TENANT, one.id) for one in stored],  # type: ignore[misc]
        "get": [lambda one=one: store.get(TENANT, one.id) for one in stored],  # type: ignore[misc]
        "hit": [lambda one=one: store.hit(one) for one in stored],  # type: ignore[misc]
        "drop": [lambda one=one: store.drop(TENANT, [one.id]) for one in stored],  # type: ignore[misc]
    }
    rows: list[Row] = []
    for step, made in steps.items():
        p50, p99 = await timed(made)
        rows.append({"store": name, "step": step, "p50_ms": p50, "p99_ms": p99})
    full = Quota(capacity, 10**12, reserved=(("general", 0.4), ("code", 0.2)))
    await fill(store, answers, capacity, full)
    new = [answers.next() for _ in range(calls)]
    p50, p99 = await timed([lambda one=one: store.put(one, full) for one in new])  # type: ignore[misc]
    rows.append({"store": name, "step": f"put at capacity ({capacity})", "p50_ms": p50, "p99_ms": p99})
    return rows


async def fill(store: Store, answers: Answers, count: int, quota: Quota) -> None:
    """So many answers, some at a time."""
    for _ in range(0, count, 20):
        await asyncio.gather(*(store.put(answers.next(), quota) for _ in range(20)))


async def opened(url: str) -> tuple[RedisLink, RedisStore, Ear]:
    """A worker's store, which is listening."""
    ear, link = Ear(), RedisLink(url, _BOUND_S)
    store = RedisStore(link, url, ear)
    await link.start()
    await store.start()
    await asyncio.wait_for(ear.ready.wait(), _WITHIN_S)
    return link, store, ear


async def seen(url: str, answers: Answers, calls: int) -> Row:
    """How long a new answer takes to reach another process."""
    link, store, _ = await opened(url)
    command = (sys.executable, "-m", "benchmarks.cache_store", "--redis-url", url, "--listen")
    pipe = asyncio.subprocess.PIPE
    other = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=2**26)
    if other.stdout is None:
        raise SystemExit("the other process has no output")
    await asyncio.wait_for(other.stdout.readline(), _WITHIN_S)
    put_at: dict[str, float] = {}
    for _ in range(calls):
        one = answers.next()
        put_at[one.id] = time.monotonic()
        await store.put(one, ROOMY)
        await asyncio.sleep(0.002)
    async with asyncio.timeout(_WITHIN_S):
        said, _ = await other.communicate(b"")
    heard = json.loads(said)
    lost = len(put_at.keys() - heard.keys())
    p50, p99 = quantiles([heard[one] - at for one, at in put_at.items() if one in heard])
    await store.close()
    await link.close()
    return {"store": "redis", "step": f"seen by another process ({lost} lost)", "p50_ms": p50, "p99_ms": p99}


async def listen(url: str) -> None:
    """Be the other process: note what is heard until standard input ends."""
    link, store, ear = await opened(url)
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # as `gateway.lifecycle.run` does
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await asyncio.sleep(0.2)
    print(json.dumps(ear.at))
    await store.close()
    await link.close()


async def cold_start(url: str, answers: Answers, entries: int) -> list[Row]:
    """A new worker where so many answers are."""
    link, store, _ = await opened(url)
    await link.call("FLUSHALL")
    await fill(store, answers, entries, ROOMY)
    begun, cpu = time.perf_counter(), time.thread_time()
    ear, other = Ear(), RedisLink(url, _BOUND_S)
    late = RedisStore(other, url, ear)
    await other.start()
    await late.start()
    longest, last = 0.0, time.thread_time()
    while ear.count < entries:
        await asyncio.sleep(0)
        longest, last = max(longest, time.thread_time() - last), time.thread_time()
    took, cpu = time.perf_counter() - begun, time.thread_time() - cpu
    used = int((await link.call("INFO", "memory")).split(b"used_memory:")[1].split(b"\r")[0])
    for one in (store, late, link, other):
        await one.close()
    return [
        {"store": "redis", "step": f"cold start ({entries})", "p50_ms": round(took * 1e3, 1), "p99_ms": None},
        {"store": "redis", "step": "its CPU, with polling", "p50_ms": round(cpu * 1e3, 1), "p99_ms": None},
        {"store": "redis", "step": "its stall", "p50_ms": round(longest * 1e3, 2), "p99_ms": None},
        {"store": "redis", "step": "Redis' bytes an entry", "p50_ms": round(used / entries), "p99_ms": None},
    ]


async def measure(url: str, options: argparse.Namespace) -> list[Row]:
    """All of it."""
    link, store, _ = await opened(url)
    rows = await calls_of("memory", MemoryStore(Ear()), Answers(1), options.calls, options.capacity)
    rows += await calls_of("redis", store, Answers(2), options.calls, options.capacity)
    await store.close()
    await link.close()
    rows.append(await seen(url, Answers(3), min(options.calls, 2_000)))
    return rows + await cold_start(url, Answers(4), options.entries)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--redis-url")
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--calls", type=int, default=5_000)
    parser.add_argument("--capacity", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--listen", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.listen:
        uvloop.run(listen(options.redis_url))
        return
    with redis_url(options.redis_url) as url:
        rows = uvloop.run(measure(url, options))
    if options.json:
        print(json.dumps({"machine": facts(), "rows": rows}, indent=2))
        return
    for row in rows:
        second = "" if row["p99_ms"] is None else f"{row['p99_ms']:10}"
        print(f"{row['store']:8}{row['step']:36}{row['p50_ms']:10}{second}")


if __name__ == "__main__":
    main()
