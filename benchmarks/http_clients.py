"""What one call upstream costs in this process: our client, aiohttp, httpx over aiohttp, and plain httpx, in turns.

`python -m benchmarks.http_clients --json FILE`; the upstream is `benchmarks.gateway.upstream` in its own process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import httpx
import uvloop
from httpx_aiohttp import AiohttpTransport

from benchmarks.gateway.machine import facts
from gateway.providers.h1_client import H1Client
from gateway.providers.http import Timeouts

BODY = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer x"}
TIMEOUTS = Timeouts(connect_s=5, first_byte_s=30, idle_s=30, total_s=60)
Call = Callable[[], Awaitable[bytes]]


async def measure(call: Call, calls: int, concurrency: int) -> float:
    """CPU microseconds of this process per call."""

    async def caller() -> None:
        for _ in range(calls // concurrency):
            await call()

    await asyncio.gather(*(caller() for _ in range(concurrency)))
    began = time.process_time()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return (time.process_time() - began) / (calls // concurrency * concurrency) * 1e6


async def compare(url: str, rounds: int, calls: int, concurrency: int) -> dict[str, list[float]]:
    """CPU microseconds per call of each client, one figure a round; the clients take turns."""
    ours = H1Client()
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
        httpx.AsyncClient(transport=AiohttpTransport(), timeout=30) as over_aiohttp,
        httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=None)) as plain,
    ):

        async def with_ours() -> bytes:
            return await (await ours.open(url, HEADERS, BODY, TIMEOUTS)).read(1_000_000)

        async def with_aiohttp() -> bytes:
            async with session.post(url, data=BODY, headers=HEADERS, allow_redirects=False) as reply:
                return await reply.read()

        async def with_httpx_over_aiohttp() -> bytes:
            return (await over_aiohttp.post(url, content=BODY, headers=HEADERS)).content

        async def with_httpx() -> bytes:
            return (await plain.post(url, content=BODY, headers=HEADERS)).content

        contestants: dict[str, Call] = {
            "ours": with_ours,
            "aiohttp": with_aiohttp,
            "httpx over aiohttp": with_httpx_over_aiohttp,
            "httpx": with_httpx,
        }
        found: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, call in contestants.items():
                found[name].append(await measure(call, calls, concurrency))
    await ours.close()
    return found


def main() -> None:
    """Measure, print medians and paired ratios, write every round."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http_clients", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=640, help="calls a round and client")
    parser.add_argument("--concurrency", type=int, default=32)
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "benchmarks.gateway.upstream", "--port", "0"]
    upstream = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = upstream.stdout.readline() if upstream.stdout else ""
        url = f"{line.split()[1]}/instant/v1/chat/completions"
        found = uvloop.run(compare(url, arguments.rounds, arguments.calls, arguments.concurrency))
    finally:
        upstream.terminate()
        upstream.wait(10)
    for name, figures in found.items():
        ratio = statistics.median(one / base for one, base in zip(figures, found["ours"], strict=True))
        print(f"{name:<20} {statistics.median(figures):8.0f} CPU µs a call, {ratio:6.2f} x ours")
    arguments.json.write_text(json.dumps({"cpu_us_per_call": found, "machine": facts()}, indent=2, default=str))


if __name__ == "__main__":
    main()
