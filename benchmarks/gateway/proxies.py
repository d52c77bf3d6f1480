"""Who is measured: the upstream itself, a bare nginx proxy, a bare FastAPI + httpx proxy, and Fingerpost.

Each is a recipe of a command, files and names; starting is `processes`' business, measuring that of `phases`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gateway.client import Target, connect
from benchmarks.gateway.load import verdict
from benchmarks.gateway.processes import Processes, Started, free_port
from benchmarks.gateway.upstream import PACES
from benchmarks.gateway.upstream_bodies import MODEL, compact

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parents[2]
_PROMPT = "Explain in three sentences what a reverse proxy does and why somebody would put one before a model server."
_READY_S = 120.0


class CannotStart(Exception):
    """A contestant is missing or does not answer rightly; the message is the reason, in one line."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """How to start a server and how to ask it for each mode. An empty command: nothing to start."""

    name: str
    port: int
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    key: str = "bench-key"
    routes_by_model: bool = False

    def target(self, mode: str, stream: bool) -> Target:
        """The request that makes this contestant fetch an answer of `mode` from the upstream.

        Bare proxies pass the path on, so the path names the mode; a gateway has one path, so a policy names it.
        """
        path, model = f"/{mode}/v1/chat/completions", MODEL
        if self.routes_by_model:
            path, model = "/v1/chat/completions", "auto" if mode == "instant" else f"auto:{mode}"
        body: dict[str, object] = {
            "model": model,
            "messages": [
                {"role": "system", "content": "You are a helpful assistant. Be brief."},
                {"role": "user", "content": _PROMPT},
            ],
            "temperature": 0.7,
            "max_tokens": 256,
        }
        if stream:
            body["stream"] = True
        return Target(HOST, self.port, path, compact(body), self.key)


def direct(upstream_port: int, folder: Path) -> Contestant:
    """No proxy at all: what the load and the upstream can do by themselves."""
    return Contestant("direct", upstream_port)


def nginx(upstream_port: int, folder: Path) -> Contestant:
    """nginx with one worker, a kept-alive upstream, no buffering and no log."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise CannotStart("nginx is not installed (Debian: apt-get install nginx-light)")
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(_nginx_config(port, upstream_port, folder))
    return Contestant("nginx", port, (program, "-e", str(folder / "nginx-error.log"), "-c", str(config)))


def _nginx_config(port: int, upstream_port: int, folder: Path) -> str:
    user = "user root;" if os.geteuid() == 0 else ""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    scratch = "\n  ".join(f"{kind}_temp_path {folder}/nginx-{kind};" for kind in kinds)
    return f"""
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
events {{ worker_connections 2048; }}
http {{
  access_log off;
  {scratch}
  upstream bench {{ server {HOST}:{upstream_port}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen {HOST}:{port} backlog=1024;
    keepalive_requests 1000000000;
    location / {{
      proxy_pass http://bench;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


def fastapi(upstream_port: int, folder: Path) -> Contestant:
    """The bare FastAPI + httpx proxy on one uvicorn worker."""
    port = free_port()
    upstream = f"http://{HOST}:{upstream_port}"
    module = "benchmarks.gateway.fastapi_proxy"
    return Contestant(
        "fastapi",
        port,
        (sys.executable, "-m", module, "--port", str(port), "--upstream", upstream),
        {"PYTHONPATH": str(ROOT)},
    )


def fingerpost(upstream_port: int, folder: Path) -> Contestant:
    """Fingerpost as a user starts it: key check, policy, rules router and SQL log (SQLite) on, embedding off."""
    program = shutil.which("fingerpost", path=str(Path(sys.executable).parent)) or shutil.which("fingerpost")
    if program is None:
        raise CannotStart("the command 'fingerpost' is not installed (pip install -e .)")
    port, home = free_port(), folder / "fingerpost"
    policies = home / "policies"
    policies.mkdir(parents=True)
    (home / "catalogue.toml").write_text("".join(_catalogue_rows(mode, upstream_port) for mode in PACES))
    for mode in PACES:
        policy = "default" if mode == "instant" else mode
        (policies / f"{policy}.toml").write_text(_policy(policy, mode))
    key = f"fp-{secrets.token_urlsafe(32)}"
    command = (program, "serve", "--host", HOST, "--port", str(port), "--data-dir", str(home / "data"))
    environment = {
        "FINGERPOST_CATALOGUE": str(home / "catalogue.toml"),
        "FINGERPOST_POLICIES": str(policies),
        "FINGERPOST_BOOTSTRAP_KEY": key,
        "FINGERPOST_PRELOAD": "false",
        "FINGERPOST_LOG_LEVEL": "warning",
        "BENCH_UPSTREAM_KEY": "sk-bench-upstream",
    }
    return Contestant("fingerpost", port, command, environment, key, routes_by_model=True)


def model_name(mode: str) -> str:
    """The model that the catalogue serves from a mode of the upstream."""
    return MODEL if mode == "instant" else f"{MODEL}-{mode}"


def _catalogue_rows(mode: str, upstream_port: int) -> str:
    name = model_name(mode)
    return f"""
[[model]]
id = "{name}"
context_tokens = 131072
price_in_usd_per_mtok = 0.5
price_out_usd_per_mtok = 1.5
prior_quality = 0.7
description = "The benchmark upstream, mode {mode}"

[[endpoint]]
id = "{name}-upstream"
model = "{name}"
provider = "openai"
base_url = "http://{HOST}:{upstream_port}/{mode}/v1"
wire_model = "{MODEL}"
key_ref = "env:BENCH_UPSTREAM_KEY"
"""


def _policy(policy: str, mode: str) -> str:
    return f"""
schema = 1
name = "{policy}"
models = ["{model_name(mode)}"]

[router]
kind = "rules"

[[router.rule]]
name = "everything"
prefer = ["{model_name(mode)}"]
"""


Recipe = Callable[[int, Path], Contestant]
RECIPES: Mapping[str, Recipe] = {"direct": direct, "nginx": nginx, "fastapi": fastapi, "fingerpost": fingerpost}


@dataclass(frozen=True, slots=True)
class Running:
    """A contestant that answers; `process` is None where there is none of its own."""

    contestant: Contestant
    process: Started | None

    @property
    def pid(self) -> int | None:
        """The root of its process tree, if there is one."""
        return self.process.pid if self.process else None

    @property
    def name(self) -> str:
        """The contestant's name."""
        return self.contestant.name


async def bring_up(
    recipe: Recipe, upstream_port: int, folder: Path, processes: Processes, core: int, chunks: int
) -> Running:
    """Start one contestant and see it answer every mode rightly; raises CannotStart with the reason."""
    contestant = recipe(upstream_port, folder)
    started = None
    if contestant.command:
        started = processes.start(contestant.name, contestant.command, core, contestant.environment)
    await _answers(contestant, started)
    for mode in PACES:
        heard = await ask(contestant.target(mode, stream=True), chunks)
        if heard:
            raise CannotStart(f"does not stream mode {mode} rightly: {heard}")
    return Running(contestant, started)


async def _answers(contestant: Contestant, started: Started | None) -> None:
    """Return when the contestant gives a good whole answer."""
    until_s = time.monotonic() + _READY_S
    heard = "nothing"
    while time.monotonic() < until_s:
        if started is not None and started.ended is not None:
            raise CannotStart(f"ended with status {started.ended} at start: {started.last_words()}")
        heard = await ask(contestant.target("instant", stream=False), 0)
        if not heard:
            return
        if heard.startswith("status 4"):
            break
        await asyncio.sleep(0.1)
    raise CannotStart(f"does not answer a chat completion: {heard}")


async def ask(target: Target, chunks: int) -> str:
    """One exchange on a connection of its own: "" if the answer is good, else what is wrong with it."""
    connection = await connect(target)
    if connection is None:
        return "no connection"
    try:
        exchange = await connection.exchange(target.request(), timeout_s=30.0)
    finally:
        connection.close()
    wrong = verdict(exchange, chunks)
    if not wrong and b'"chat.completion' not in exchange.opening:
        wrong = "not a chat completion:"
    return f"{wrong} {exchange.opening.decode(errors='replace')}".strip() if wrong else ""
