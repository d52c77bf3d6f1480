"""Two drafts on trial under load, from the save of the draft to the last line in the audit log.

    python -m benchmarks.canary_story [--database-url postgresql://...] [--workers 2] [--rate 100] [--json]

What is in force calls a model that fails one time in a hundred. The first draft calls one at half the price that fails
one time in eight, the second one at half the price that fails no more often. Both get three in ten end users, each of
whom asks twice; nobody looks on: the first is to be stopped, the second to be put in force by what the trial finds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvloop

from benchmarks.gateway.client import ClientConnection, Target
from benchmarks.gateway.machine import facts
from benchmarks.gateway.processes import Processes, cores, free_port
from benchmarks.gateway.upstream_bodies import completion, http_response
from gateway.lifecycle.trials.desk import LEAST_USUAL

HOST = "127.0.0.1"
TIMEOUT_S = 20.0
READY_S = 60.0
END_S = 180.0
SHARE = 0.3
FAILS = {"solid": 0.01, "bargain": 0.125, "thrifty": 0.01}
PRICES = {"solid": 1.0, "bargain": 0.5, "thrifty": 0.5}
POLICY = (
    'schema = 1\nname = "desk"\nmodels = ["{model}"]\n[router]\nkind = "rules"\n'
    "[fallback]\nmax_attempts = 1\nretries = 0\n"
)
ROW = (
    '[[model]]\nid = "{model}"\ncontext_tokens = 20000\nprior_quality = 0.7\nprice_in_usd_per_mtok = {price}\n'
    'price_out_usd_per_mtok = {price}\n[[endpoint]]\nid = "{model}-1"\nmodel = "{model}"\nprovider = "openai"\n'
    'base_url = "{url}/{model}/v1"\nkey_ref = "env:BENCH_UPSTREAM_KEY"\n'
)
TOLERANCE = {"errors": 0.02, "cost": 0.1, "latency": 0.05}
LIMITS = {"share": SHARE, "tolerance": TOLERANCE, "window_s": 2, "settle_s": 2, "min_units": 300, "auto_promote": True}


@dataclass(slots=True)
class Upstream:
    """Answers each model's requests, or fails as often as `FAILS` says; the same each time for the same seed."""

    rng: random.Random
    url: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One more connection."""
        task = asyncio.create_task(self._answer(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Request by request."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if b"content-length" in line]
                await reader.readexactly(int(lengths[0]))
                model = head.split(b" ", 2)[1].split(b"/")[1].decode()
                self.asked[model] += 1
                failed = self.rng.random() < FAILS[model]
                writer.write(http_response(500, b'{"error":{"message":"no"}}') if failed else _WHOLE)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.transport.abort()


_WHOLE = http_response(200, completion())


@asynccontextmanager
async def upstream(seed: int) -> AsyncIterator[Upstream]:
    """On a free port."""
    found = Upstream(random.Random(seed))
    server = await asyncio.start_server(found.serve, HOST, 0)
    found.url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        server.close()
        open_ones = tuple(found.tasks)
        for task in open_ones:
            task.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)
        await asyncio.sleep(0)  # until their sockets are closed


class Served(ClientConnection):
    """Notes which model has answered."""

    def __init__(self) -> None:
        super().__init__()
        self.model = ""

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"x-fingerpost-model":
            self.model = value.decode()


@dataclass(slots=True)
class Act:
    """One draft's trial: how it went every second, how it ended, what the audit log has of it, and what clients saw:
    answers by model, and failures, until the end and in the seconds after it."""

    model: str
    trial: dict[str, Any]
    points: list[dict[str, Any]]
    audit: list[dict[str, Any]]
    took_s: float
    during: Counter[str]
    after: Counter[str]


@dataclass(slots=True)
class Load:
    """End users that come one after the other, each with two requests; `seen` counts answers by model."""

    target: Target
    rate: float
    seen: Counter[str] = field(default_factory=Counter)
    users: int = 0

    async def run(self) -> None:
        """Until cancelled; requests that are on their way are waited for."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._user(f"user-{self.users}"))
                self.users += 1
                await asyncio.sleep(max(began + 2 * self.users / self.rate - loop.time(), 0))

    async def _user(self, name: str) -> None:
        body = {"model": "auto:desk", "user": name, "messages": [{"role": "user", "content": "hello"}]}
        target = Target(HOST, self.target.port, self.target.path, json.dumps(body).encode(), self.target.key)
        for _ in range(2):
            _, connection = await asyncio.get_running_loop().create_connection(Served, HOST, target.port)
            found = await connection.exchange(target.request(), TIMEOUT_S)
            connection.close()
            self.seen[connection.model if found.status == 200 else f"failed {found.status}"] += 1


@dataclass(slots=True)
class Stage:
    """A gateway under load."""

    admin: httpx.AsyncClient
    load: Load

    async def act(self, model: str) -> Act:
        """Save a draft, put it on trial, and look on until it has ended."""
        loop = asyncio.get_running_loop()
        saved = await self._post("policies/desk/versions", POLICY.format(model=model))
        began, before = loop.time(), Counter(self.load.seen)
        asked = {"policy": "desk", "version": saved["id"], "mode": "canary", **LIMITS}
        trial = await self._post("trials", asked)
        points: list[dict[str, Any]] = []
        async with asyncio.timeout(END_S):
            while trial["state"] == "running":
                await asyncio.sleep(1)
                trial = await self._get(f"trials/{trial['id']}")
                points.append({"s": round(loop.time() - began, 1), **_point(trial)})
        took_s, during = loop.time() - began, self.load.seen - before
        await asyncio.sleep(1.5)  # what was on its way, and workers that hear of it
        before = Counter(self.load.seen)
        await asyncio.sleep(3)
        lines = [one for one in (await self._get("audit"))["data"] if one["detail"].get("trial") == trial["id"]]
        return Act(model, trial, points, lines[::-1], took_s, during, self.load.seen - before)

    async def _post(self, path: str, body: str | dict[str, Any]) -> dict[str, Any]:
        given: dict[str, Any] = {"content": body} if isinstance(body, str) else {"json": body}
        return _told(await self.admin.post(f"/admin/{path}", **given))

    async def _get(self, path: str) -> dict[str, Any]:
        return _told(await self.admin.get(f"/admin/{path}"))


def _told(answer: httpx.Response) -> dict[str, Any]:
    if answer.is_error:
        raise RuntimeError(f"{answer.url}: {answer.status_code} {answer.text}")
    found: dict[str, Any] = answer.json()
    return found


def _point(trial: dict[str, Any]) -> dict[str, Any]:
    """What a plot would have of it."""
    arms, errors = trial["arms"], trial["metrics"]["errors"]
    units = {name: one["units"] for name, one in arms.items()}
    return {"units": units, "errors": {name: errors[name] for name in ("control", "canary", "low", "high", "p_harm")}}


async def warm(load: Load) -> None:
    """What is usual, before any trial: it says what is slow and what is dear."""
    await asyncio.sleep(200 / load.rate)
    if load.seen["solid"] < LEAST_USUAL:
        raise RuntimeError(f"the gateway answered {load.seen['solid']} requests only: {dict(load.seen)}")
    await asyncio.sleep(1)  # until they are in the ledger


async def told(
    folder: Path, *, drafts: tuple[str, ...], workers: int, rate: float, seed: int = 1, database: str | None = None
) -> list[Act]:
    """The whole story in a folder."""
    keys = (f"fp-{secrets.token_urlsafe(32)}", f"fp-{secrets.token_urlsafe(32)}")
    async with upstream(seed) as behind:
        with Processes(folder) as processes:
            port = free_port()
            command = [sys.executable, "-m", "gateway.cli.main", "serve", "--host", HOST, "--port", str(port)]
            command += ["--workers", str(workers), "--data-dir", str(folder / "data")]
            processes.start("fingerpost", command, cores()[0], _settings(folder, behind, keys, database))
            headers = {"Authorization": f"Bearer {keys[1]}"}
            async with httpx.AsyncClient(base_url=f"http://{HOST}:{port}", headers=headers, timeout=TIMEOUT_S) as admin:
                await _ready(admin)
                load = Load(Target(HOST, port, "/v1/chat/completions", b"", keys[0]), rate)
                return await _played(Stage(admin, load), drafts)


async def _played(stage: Stage, drafts: tuple[str, ...]) -> list[Act]:
    running = asyncio.create_task(stage.load.run())
    try:
        await warm(stage.load)
        return [await stage.act(model) for model in drafts]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _ready(admin: httpx.AsyncClient) -> None:
    """Until every worker serves the policy."""
    async with asyncio.timeout(READY_S):
        while True:
            try:
                answer = await admin.put("/admin/policies", content=POLICY.format(model="solid"))
                answer.raise_for_status()
                await asyncio.sleep(3)
                return
            except httpx.TransportError:
                await asyncio.sleep(0.2)


def _settings(folder: Path, behind: Upstream, keys: tuple[str, str], database: str | None) -> dict[str, str]:
    rows = "".join(ROW.format(model=model, url=behind.url, price=PRICES[model]) for model in FAILS)
    (folder / "catalogue.toml").write_text(rows)
    given = {"FINGERPOST_DATABASE_URL": database} if database else {}
    return given | {
        "FINGERPOST_CATALOGUE": str(folder / "catalogue.toml"),
        "FINGERPOST_BOOTSTRAP_KEY": keys[0],
        "FINGERPOST_ADMIN_KEY": keys[1],
        "FINGERPOST_PRELOAD": "false",
        "FINGERPOST_LOG_LEVEL": "warning",
        "BENCH_UPSTREAM_KEY": "sk-bench-upstream",
    }


def _print(act: Act) -> None:
    trial = act.trial
    print(f"\nThe draft '{act.model}': {trial['state']} after {act.took_s:.1f} s. {trial['verdict']}")
    print("    s  units control/canary  failed control/canary   difference in points   p-value of harm")
    for one in _changed(act.points):
        errors, units = one["errors"], one["units"]
        low, high = ("?" if errors[end] is None else f"{100 * errors[end]:+.1f}" for end in ("low", "high"))
        failed = "/".join("-" if errors[arm] is None else f"{errors[arm]:.1%}" for arm in ("control", "canary"))
        counts = f"{units['control']}/{units['canary']}"
        print(f"{one['s']:5.1f}  {counts:>20}  {failed:>21}  {low:>6} .. {high:<6}  {errors['p_harm']:.2g}")
    print(f"clients saw until the end: {dict(act.during)}; in three seconds after it: {dict(act.after)}")
    for line in act.audit:
        detail = {key: value for key, value in line["detail"].items() if key not in ("figures", "limits", "trial")}
        print(f"audit: {line['action']} by {line['actor']}: {json.dumps(detail)}")


def _changed(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The seconds in which more was known than in the one before."""
    return [one for place, one in enumerate(points) if not place or one["units"] != points[place - 1]["units"]]


def main() -> None:
    """Play it and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database-url")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fingerpost-story-") as name:
        story = told(
            Path(name),
            drafts=("bargain", "thrifty"),
            workers=options.workers,
            rate=options.rate,
            database=options.database_url,
        )
        acts = uvloop.run(story)
    if options.json:
        rows = [{"model": act.model, "trial": act.trial, "points": act.points, "audit": act.audit} for act in acts]
        print(json.dumps({"machine": facts(), "acts": rows}, indent=2))
        return
    for act in acts:
        _print(act)


if __name__ == "__main__":
    main()
