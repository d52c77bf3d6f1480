"""Requests that come at once, to one gateway of two workers on one Redis: upstream calls, and who waits how long.

    python -m benchmarks.cache_stampede [--redis-url redis://...] [--requests 100] [--rounds 20] [--json]

Each round asks a question that nobody asked before, `--requests` times at the same moment: in the same words or in
six ways that certainly ask the same, whole or as streams. The upstream's first byte comes after 0.12 s (median), then
20 events a second, 40 in all. "behind": how much later than the one that was asked (the nearest where two were) the
streams that came along with it got their first byte (ms); "elsewhere" counts those that waited for the whole answer in
the other worker. Both workers share one core, clients and upstream the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop

from benchmarks.gateway.client import ClientConnection, Exchange, Target
from benchmarks.gateway.machine import facts
from benchmarks.gateway.processes import Processes, cores, free_port
from benchmarks.gateway.upstream import UpstreamServer, start
from benchmarks.redis_server import redis_url

HOST = "127.0.0.1"
MODEL = "asked"
EVENTS = 40
# Who is that far behind has waited for the whole answer, which takes about 2 s.
WHOLE_S = 1.0
TIMEOUT_S = 30.0
READY_S = 60.0
SAME = ("How do I activate a new card?",)
ALIKE = (
    "How do I activate a new card?",
    "How can I activate a new card?",
    "How could I activate a new card?",
    "How do I activate a new card",
    "How would I activate a new card?",
    "how can i activate a new card?",
)
Row = dict[str, object]


class Told(ClientConnection):
    """Notes what the gateway says of the cache."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = ""

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"x-fingerpost-cache":
            self.cache = value.decode()


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where it is, and the key to it."""

    port: int
    key: str

    def target(self, text: str, namespace: str, stream: bool) -> Target:
        """One request; what one round asks no other one is answered."""
        messages = [{"role": "user", "content": text}]
        body = {"model": "auto", "messages": messages, "stream": stream, "cache": {"namespace": namespace}}
        return Target(HOST, self.port, "/v1/chat/completions", json.dumps(body).encode(), self.key)


async def opened(gateway: Gateway, count: int) -> list[Told]:
    """So many connections, before anything is asked."""
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Told, HOST, gateway.port))[1] for _ in range(count)]


async def crowd(gateway: Gateway, texts: Sequence[str], stream: bool, count: int) -> list[tuple[str, Exchange]]:
    """What each of so many that ask at once is told, and when."""
    connections = await opened(gateway, count)
    namespace = secrets.token_hex(8)
    requests = [gateway.target(texts[place % len(texts)], namespace, stream).request() for place in range(count)]
    asking = [one.exchange(sent, TIMEOUT_S) for one, sent in zip(connections, requests, strict=True)]
    found = await asyncio.gather(*asking)
    for one in connections:
        one.close()
    return [(one.cache, exchange) for one, exchange in zip(connections, found, strict=True)]


async def measured(
    gateway: Gateway, upstream: UpstreamServer, texts: Sequence[str], stream: bool, options: argparse.Namespace
) -> Row:
    """All rounds of one kind."""
    calls, failed, elsewhere = [], 0, 0
    behind: list[float] = []
    for _ in range(options.rounds):
        before = upstream.stats.requests
        told = await crowd(gateway, texts, stream, options.requests)
        calls.append(upstream.stats.requests - before)
        failed += sum(one.status != 200 or bool(one.error) for _, one in told)
        leaders = [one for cache, one in told if cache == "miss"]
        for cache, one in told:
            if cache.startswith("hit") and leaders:
                first = min(leaders, key=lambda leader: abs(leader.first_body_s - one.first_body_s))
                behind_s = one.first_body_s - first.first_body_s
                elsewhere += behind_s > WHOLE_S
                behind += [] if behind_s > WHOLE_S else [behind_s * 1e3]
    p50, p99 = np.percentile(behind, (50, 99)) if behind else (None, None)
    return {
        "asked": "in the same words" if len(texts) == 1 else "in six ways",
        "form": "streams" if stream else "whole",
        "most calls": max(calls),
        "mean calls": round(sum(calls) / len(calls), 2),
        "failed": failed,
        "came along": len(behind),
        "elsewhere": elsewhere,
        "behind p50": None if p50 is None else round(float(p50), 2),
        "behind p99": None if p99 is None else round(float(p99), 2),
    }


def settings(folder: Path, upstream: UpstreamServer, redis: str, key: str) -> dict[str, str]:
    """A gateway's environment, and its files."""
    (folder / "policies").mkdir()
    (folder / "policies" / "default.toml").write_text(
        f'schema = 1\nname = "default"\nmodels = ["{MODEL}"]\n[router]\nkind = "rules"\n[cache]\nmode = "semantic"\n'
    )
    (folder / "catalogue.toml").write_text(
        f'[[model]]\nid = "{MODEL}"\ncontext_tokens = 20000\nprior_quality = 0.7\nprice_in_usd_per_mtok = 1.0\n'
        f'price_out_usd_per_mtok = 2.0\n[[endpoint]]\nid = "at-upstream"\nmodel = "{MODEL}"\nprovider = "openai"\n'
        f'base_url = "{upstream.base_url("typical")}"\nkey_ref = "env:BENCH_UPSTREAM_KEY"\n'
    )
    return {
        "FINGERPOST_CATALOGUE": str(folder / "catalogue.toml"),
        "FINGERPOST_POLICIES": str(folder / "policies"),
        "FINGERPOST_BOOTSTRAP_KEY": key,
        "FINGERPOST_REDIS_URL": redis,
        "FINGERPOST_EMBED_TIMEOUT_S": "5",
        "FINGERPOST_LOG_LEVEL": "warning",
        "BENCH_UPSTREAM_KEY": "sk-bench-upstream",
        "OMP_NUM_THREADS": "1",
    }


async def ready(gateway: Gateway) -> None:
    """Until it answers, with its embedder loaded in both workers."""
    async with asyncio.timeout(READY_S):
        while True:
            try:
                told = await crowd(gateway, ALIKE, False, 20)
            except OSError:
                await asyncio.sleep(0.2)
                continue
            if all(one.status == 200 for _, one in told):
                return


async def measure(redis: str, options: argparse.Namespace) -> list[Row]:
    """All kinds."""
    upstream = await start(chunks=EVENTS, keep_requests=False)
    with tempfile.TemporaryDirectory(prefix="fingerpost-bench-") as name, Processes(Path(name)) as processes:
        folder, gateway = Path(name), Gateway(free_port(), f"fp-{secrets.token_urlsafe(32)}")
        command = [sys.executable, "-m", "gateway.cli.main", "serve", "--host", HOST, "--port", str(gateway.port)]
        command += ["--workers", "2", "--data-dir", str(folder / "data")]
        processes.start("fingerpost", command, cores()[0], settings(folder, upstream, redis, gateway.key))
        await ready(gateway)
        rows = [
            await measured(gateway, upstream, texts, stream, options)
            for texts in (SAME, ALIKE)
            for stream in (False, True)
        ]
    await upstream.close()
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--redis-url")
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with redis_url(options.redis_url) as url:
        rows = uvloop.run(measure(url, options))
    if options.json:
        print(json.dumps({"machine": facts(), "rows": rows}, indent=2))
        return
    print("  ".join(rows[0]))
    for row in rows:
        print("  ".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
