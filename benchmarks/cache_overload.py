"""What load adaptation takes off an upstream that can't keep up, and what that costs in wrong answers.

    python -m benchmarks.cache_overload --stream STREAM.jsonl [--categories support_faq,medical] [--rate 40] [--json]

A labelled stream is asked of a real gateway at a fixed rate, in order, by an open loop. Its upstream has `--slots` for
calls of `--call-ms` each and answers 429 beyond that; it says which answer is right for what it was asked, so that each
answer from the cache is right or wrong by its label. Three policies, each with a gateway of its own that knows nothing:
one that never adapts, one that does, and the adapting one before an upstream that can keep up. With `--repeats` so many
of the requests ask again, word for word, what was asked before; `--ttl-s` and `--stale-s` say what becomes of those.

The shipped verifier has learned from the public stream: on that its wrong hits are flattering.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvloop

from benchmarks.gateway.machine import facts
from benchmarks.gateway.processes import Processes, cores, free_port
from gateway.cache.replay import StreamRow, read_stream

HOST = "127.0.0.1"
MODEL = "strained"
READY_S = 60.0
ENDLESS = 10_000
Row = dict[str, object]


@dataclass(slots=True)
class Upstream:
    """So many calls at once of so many seconds each; what comes beyond that is refused."""

    answers: dict[str, str]
    slots: int
    call_s: float
    busy: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: requests one after the other."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if b"content-length" in line)
                body = await reader.readexactly(length)
                status, said = await self._answer(json.loads(body)["messages"][-1]["content"])
                sent = json.dumps(said).encode()
                writer.write(b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n" % status)
                writer.write(b"content-length: %d\r\n\r\n" % len(sent) + sent)
                await writer.drain()
        writer.close()

    async def _answer(self, question: str) -> tuple[int, object]:
        self.counts["asked"] += 1
        if self.busy >= self.slots:
            self.counts["refused"] += 1
            return 429, {"error": {"message": "too many", "type": "rate_limit_error", "code": None, "param": None}}
        self.busy += 1
        await asyncio.sleep(self.call_s)
        self.busy -= 1
        message = {"role": "assistant", "content": self.answers[question]}
        return 200, {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
        }


@dataclass(slots=True)
class Tally:
    """What clients were told."""

    counts: Counter[str] = field(default_factory=Counter)
    waited_s: list[float] = field(default_factory=list)

    def count(self, row: StreamRow, reply: httpx.Response, waited_s: float) -> None:
        """One reply."""
        self.waited_s.append(waited_s)
        self.counts["requests"] += 1
        if reply.status_code != 200:
            self.counts["refused"] += 1
            return
        cache = reply.headers["x-fingerpost-cache"]
        wrong = reply.json()["choices"][0]["message"]["content"] != row.answer_id
        kinds = ["hits"] if cache.startswith("hit") else []
        why = reply.headers.get("x-fingerpost-cache-reason", "")
        if "may be wrong" in why:
            kinds.append("loosened")
        if cache == "hit-stale":
            kinds.append("stale")
        if "no model" in why:
            kinds.append("for refusals")
        for kind in kinds:
            self.counts[kind] += 1
            self.counts[f"{kind} wrong"] += wrong


async def asked(url: str, key: str, rows: Sequence[StreamRow], rate: float) -> Tally:
    """The stream, one request every 1/rate seconds, whatever becomes of those before."""
    tally, loop = Tally(), asyncio.get_running_loop()
    limits = httpx.Limits(max_connections=1000, max_keepalive_connections=200)
    async with httpx.AsyncClient(
        base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=60, limits=limits
    ) as client:

        async def one(row: StreamRow) -> None:
            body = {"model": "auto", "messages": [{"role": "user", "content": row.query}]}
            began = time.perf_counter()
            reply = await client.post("/v1/chat/completions", json=body)
            tally.count(row, reply, time.perf_counter() - began)

        began, tasks = loop.time(), []
        for place, row in enumerate(rows):
            await asyncio.sleep(max(began + place / rate - loop.time(), 0))
            tasks.append(asyncio.create_task(one(row)))
        await asyncio.gather(*tasks)
    return tally


def settings(folder: Path, port: int, key: str, cache: str) -> dict[str, str]:
    """A gateway's environment, and its files."""
    (folder / "policies").mkdir(parents=True)
    (folder / "policies" / "default.toml").write_text(
        f'schema = 1\nname = "default"\nmodels = ["{MODEL}"]\n[router]\nkind = "rules"\n[fallback]\nretries = 0\n'
        f'[cache]\nmode = "semantic"\n{cache}'
    )
    (folder / "catalogue.toml").write_text(
        f'[[model]]\nid = "{MODEL}"\ncontext_tokens = 20000\nprior_quality = 0.7\nprice_in_usd_per_mtok = 1.0\n'
        f'price_out_usd_per_mtok = 2.0\n[[endpoint]]\nid = "at-upstream"\nmodel = "{MODEL}"\nprovider = "openai"\n'
        f'base_url = "http://{HOST}:{port}/v1"\nkey_ref = "env:BENCH_UPSTREAM_KEY"\n'
    )
    return {
        "FINGERPOST_CATALOGUE": str(folder / "catalogue.toml"),
        "FINGERPOST_POLICIES": str(folder / "policies"),
        "FINGERPOST_BOOTSTRAP_KEY": key,
        "FINGERPOST_EMBED_TIMEOUT_S": "5",
        "FINGERPOST_LOG_LEVEL": "error",
        "BENCH_UPSTREAM_KEY": "sk-bench-upstream",
    }


async def ready(url: str, key: str, upstream: Upstream) -> None:
    """Until it answers, with its embedder loaded; what was asked for that counts for nothing."""
    upstream.answers["Are you there?"] = "yes"
    async with asyncio.timeout(READY_S), httpx.AsyncClient(timeout=60) as client:
        while True:
            body = {"model": "auto", "messages": [{"role": "user", "content": "Are you there?"}]}
            with suppress(httpx.TransportError):
                reply = await client.post(
                    f"{url}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"}
                )
                if reply.status_code == 200:
                    break
            await asyncio.sleep(0.2)
    upstream.counts.clear()


async def measured(name: str, cache: str, slots: int, rows: Sequence[StreamRow], options: argparse.Namespace) -> Row:
    """One gateway's run over the stream."""
    upstream = Upstream({row.query: row.answer_id for row in rows}, slots, options.call_ms / 1000)
    server = await asyncio.start_server(upstream.serve, HOST, 0, limit=2**20)
    with tempfile.TemporaryDirectory(prefix="fingerpost-bench-") as place, Processes(Path(place)) as processes:
        folder, port, key = Path(place), free_port(), f"fp-{secrets.token_urlsafe(32)}"
        command = [sys.executable, "-m", "gateway.cli.main", "serve", "--host", HOST, "--port", str(port)]
        command += ["--data-dir", str(folder / "data")]
        environment = settings(folder, server.sockets[0].getsockname()[1], key, cache)
        processes.start("fingerpost", command, cores()[0], environment)
        url = f"http://{HOST}:{port}"
        await ready(url, key, upstream)
        tally = await asked(url, key, rows, options.rate)
    server.close()
    return shown(name, tally, upstream)


def shown(name: str, tally: Tally, upstream: Upstream) -> Row:
    """A run in figures."""
    counts, waited = tally.counts, sorted(tally.waited_s)
    row: Row = {"policy": name, "requests": counts["requests"], "calls": upstream.counts["asked"]}
    row |= {"calls refused": upstream.counts["refused"], "clients refused": counts["refused"]}
    for kind in ("hits", "loosened", "stale", "for refusals"):
        row[kind] = counts[kind]
        row[f"{kind} wrong"] = counts[f"{kind} wrong"]
    return row | {"p50 ms": round(1000 * waited[len(waited) // 2], 1)}


def stream(options: argparse.Namespace) -> list[StreamRow]:
    """The rows that are asked, with repeats where they are wanted."""
    rows = read_stream(options.stream)
    names = set(filter(None, options.categories.split(",")))
    rows = [row for row in rows if not names or row.category in names][: options.most]
    if not options.repeats:
        return rows
    dice, found = random.Random(options.seed), []
    for place, row in enumerate(rows):
        found.append(rows[dice.randrange(place)] if place and dice.random() < options.repeats else row)
    return found


async def measure(options: argparse.Namespace) -> list[Row]:
    """All policies."""
    rows = stream(options)
    usual = f"ttl_s = {options.ttl_s}\nmax_false_hit_share = {options.share}\n"
    under_load = f"max_false_hit_share_under_load = {options.share_under_load}\nstale_s = {options.stale_s}\n"
    runs = [("never adapts", usual, options.slots), ("adapts", usual + under_load, options.slots)]
    runs.append(("adapts, no load", usual + under_load, ENDLESS))
    return [await measured(name, cache, slots, rows, options) for name, cache, slots in runs]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stream", type=Path, required=True)
    parser.add_argument("--categories", default="", help="those of the stream that are asked (default all)")
    parser.add_argument("--most", type=int, default=ENDLESS, help="rows at most")
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second")
    parser.add_argument("--slots", type=int, default=5)
    parser.add_argument("--call-ms", type=float, default=250.0)
    parser.add_argument("--share", type=float, default=0.05, help="of hits that may be wrong, usually")
    parser.add_argument("--share-under-load", type=float, default=0.1)
    parser.add_argument("--repeats", type=float, default=0.0)
    parser.add_argument("--ttl-s", type=int, default=3600)
    parser.add_argument("--stale-s", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = uvloop.run(measure(options))
    if options.json:
        print(json.dumps({"machine": facts(), "rows": rows}, indent=2))
        return
    print("  ".join(rows[0]))
    for row in rows:
        print("  ".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
