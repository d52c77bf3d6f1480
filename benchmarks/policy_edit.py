"""An edit of a policy under load: how soon every worker acts on it, and whether any request fails.

    python -m benchmarks.policy_edit [--database-url postgresql://...] [--workers 4] [--rate 200] [--edits 20] [--json]

Requests come at a fixed rate, each over a connection of its own, so that all workers are asked. Every two seconds
`PUT /admin/policies` lets the policy name the other one of two models. "last old" is when the last request began that
the old policy answered, in ms since the edit was answered (below 0: none after it) and since it was sent. Workers share
one core, clients and upstream the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import httpx
import numpy as np
import uvloop

from benchmarks.gateway.client import ClientConnection, Target
from benchmarks.gateway.machine import facts
from benchmarks.gateway.processes import Processes, cores, free_port
from benchmarks.gateway.upstream import UpstreamServer, start

HOST = "127.0.0.1"
EVERY_S = 2.0
TIMEOUT_S = 20.0
READY_S = 60.0
MODELS = ("first", "second")
POLICY = 'schema = 1\nname = "edited"\nmodels = ["{model}"]\n[router]\nkind = "rules"\n'
ROW = (
    '[[model]]\nid = "{model}"\ncontext_tokens = 20000\nprior_quality = 0.7\nprice_in_usd_per_mtok = 1.0\n'
    'price_out_usd_per_mtok = 2.0\n[[endpoint]]\nid = "{model}-1"\nmodel = "{model}"\nprovider = "openai"\n'
    'base_url = "{url}"\nkey_ref = "env:BENCH_UPSTREAM_KEY"\n'
)


class Told(ClientConnection):
    """Notes which model has answered."""

    def __init__(self) -> None:
        super().__init__()
        self.model = ""

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"x-fingerpost-model":
            self.model = value.decode()


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: when it began, and which model answered ("" where none did)."""

    began_s: float
    model: str


@dataclass(frozen=True, slots=True)
class Edit:
    """When an edit was sent and answered, and which model counts from then on."""

    sent_s: float
    answered_s: float
    model: str


async def ask(target: Target) -> Asked:
    """Over a connection of its own."""
    began = perf_counter()
    try:
        _, connection = await asyncio.get_running_loop().create_connection(Told, target.host, target.port)
    except OSError:
        return Asked(began, "")
    found = await connection.exchange(target.request(), TIMEOUT_S)
    connection.close()
    return Asked(began, connection.model if found.status == 200 and not found.error else "")


async def under_load(target: Target, rate: float, ending: asyncio.Event) -> list[Asked]:
    """Requests at a fixed rate, whatever becomes of those before."""
    tasks: list[asyncio.Task[Asked]] = []
    began = perf_counter()
    while not ending.is_set():
        tasks.append(asyncio.create_task(ask(target)))
        await asyncio.sleep(max(began + len(tasks) / rate - perf_counter(), 0))
    return list(await asyncio.gather(*tasks))


async def edited(url: str, key: str, edits: int) -> list[Edit]:
    """One edit after the other."""
    found = []
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=TIMEOUT_S) as client:
        for place in range(edits):
            model = MODELS[(place + 1) % 2]
            sent = perf_counter()
            answer = await client.put(f"{url}/admin/policies", content=POLICY.format(model=model))
            answer.raise_for_status()
            found.append(Edit(sent, perf_counter(), model))
            await asyncio.sleep(EVERY_S)
    return found


def figures(asked: list[Asked], edits: list[Edit]) -> dict[str, object]:
    """What is printed."""
    late = []
    for place, edit in enumerate(edits):
        until = edits[place + 1].sent_s if place + 1 < len(edits) else float("inf")
        old = [one.began_s for one in asked if edit.sent_s <= one.began_s < until and one.model not in ("", edit.model)]
        last = max(old, default=edit.sent_s)
        late.append(((last - edit.answered_s) * 1e3, (last - edit.sent_s) * 1e3))
    since_answer, since_sent = np.array(late).T
    took = [(edit.answered_s - edit.sent_s) * 1e3 for edit in edits]
    return {
        "requests": len(asked),
        "failed": sum(not one.model for one in asked),
        "edits": len(edits),
        "edit took ms, median": round(float(np.median(took)), 1),
        "last old ms after the answer, median": round(float(np.median(since_answer)), 1),
        "last old ms after it was sent, median": round(float(np.median(since_sent)), 1),
        "the same, most": round(float(since_sent.max()), 1),
    }


def settings(folder: Path, upstream: UpstreamServer, keys: tuple[str, str], database: str | None) -> dict[str, str]:
    """A gateway's environment, and its files."""
    rows = "".join(ROW.format(model=model, url=upstream.base_url("instant")) for model in MODELS)
    (folder / "catalogue.toml").write_text(rows)
    given = {"FINGERPOST_DATABASE_URL": database} if database else {}
    return given | {
        "FINGERPOST_CATALOGUE": str(folder / "catalogue.toml"),
        "FINGERPOST_BOOTSTRAP_KEY": keys[0],
        "FINGERPOST_ADMIN_KEY": keys[1],
        "FINGERPOST_PRELOAD": "false",
        "FINGERPOST_LOG_LEVEL": "warning",
        "BENCH_UPSTREAM_KEY": "sk-bench-upstream",
        "OMP_NUM_THREADS": "1",
    }


async def ready(url: str, key: str) -> None:
    """Until the policy can be pushed, in every worker."""
    async with asyncio.timeout(READY_S), httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}) as client:
        while True:
            try:
                answer = await client.put(f"{url}/admin/policies", content=POLICY.format(model=MODELS[0]))
            except httpx.TransportError:
                await asyncio.sleep(0.2)
                continue
            answer.raise_for_status()
            await asyncio.sleep(3)
            return


async def measure(options: argparse.Namespace) -> dict[str, object]:
    """One run."""
    upstream = await start(keep_requests=False)
    with tempfile.TemporaryDirectory(prefix="fingerpost-bench-") as name, Processes(Path(name)) as processes:
        folder, port = Path(name), free_port()
        keys = (f"fp-{secrets.token_urlsafe(32)}", f"fp-{secrets.token_urlsafe(32)}")
        command = [sys.executable, "-m", "gateway.cli.main", "serve", "--host", HOST, "--port", str(port)]
        command += ["--workers", str(options.workers), "--data-dir", str(folder / "data")]
        processes.start("fingerpost", command, cores()[0], settings(folder, upstream, keys, options.database_url))
        url = f"http://{HOST}:{port}"
        await ready(url, keys[1])
        body = {"model": "auto:edited", "messages": [{"role": "user", "content": "hello"}]}
        target = Target(HOST, port, "/v1/chat/completions", json.dumps(body).encode(), keys[0])
        ending = asyncio.Event()
        load = asyncio.create_task(under_load(target, options.rate, ending))
        edits = await edited(url, keys[1], options.edits)
        ending.set()
        asked = await load
    await upstream.close()
    return figures(asked, edits)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database-url")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--edits", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    row = uvloop.run(measure(options))
    if options.json:
        print(json.dumps({"machine": facts(), "row": row}, indent=2))
        return
    for name, value in row.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
