"""Who is measured: the upstream itself, a bare nginx proxy, a bare FastAPI + httpx proxy, and Fingerpost.

Each is a recipe of a command, files and names; starting is `processes`' business, measuring that of `phases`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.gateway.client import Target, connect
from benchmarks.gateway.contestant import HOST, CannotStart, Contestant
from benchmarks.gateway.fingerpost import fingerpost, fingerpost_full
from benchmarks.gateway.load import verdict
from benchmarks.gateway.peers import litellm, tensorzero
from benchmarks.gateway.processes import Processes, Started, free_port
from benchmarks.gateway.upstream import PACES

ROOT = Path(__file__).resolve().parents[2]
_READY_S = 120.0


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


Recipe = Callable[[int, Path], Contestant]
RECIPES: Mapping[str, Recipe] = {
    "direct": direct,
    "nginx": nginx,
    "fastapi": fastapi,
    "fingerpost": fingerpost,
    "fingerpost-full": fingerpost_full,
    "tensorzero": tensorzero,
    "litellm": litellm,
}


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
    recipe: Recipe, upstream_port: int, folder: Path, processes: Processes, cores: tuple[int, int], chunks: int
) -> Running:
    """Start one contestant and see it answer every mode rightly; raises CannotStart with the reason.

    `cores`: its own, and the load's, where servers that it needs run too.
    """
    contestant = recipe(upstream_port, folder)
    started = None
    for number, command in enumerate(contestant.beside):
        processes.start(f"{contestant.name}-beside-{number}", command, cores[1], {})
    if contestant.command:
        started = processes.start(contestant.name, contestant.command, cores[0], contestant.environment)
    if contestant.port_file is not None:
        contestant = replace(contestant, port=await _own_port(contestant.port_file, started))
    await _answers(contestant, started)
    for mode in PACES:
        heard = await ask(contestant.target(mode, stream=True), chunks)
        if heard:
            raise CannotStart(f"does not stream mode {mode} rightly: {heard}")
    return Running(contestant, started)


async def _own_port(file: Path, started: Started | None) -> int:
    """The port that a server has chosen and written down."""
    until_s = time.monotonic() + _READY_S
    while time.monotonic() < until_s:
        if started is not None and started.ended is not None:
            raise CannotStart(f"ended with status {started.ended} at start: {started.last_words()}")
        port = _written(file)
        if port:
            return port
        await asyncio.sleep(0.1)
    raise CannotStart("did not say where it listens")


def _written(file: Path) -> int:
    text = file.read_text() if file.exists() else ""
    return int(text or 0)


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
    if not wrong and not any(sign in exchange.opening for sign in (b'"chat.completion', b'"choices"')):
        wrong = "not a chat completion:"
    return f"{wrong} {exchange.opening.decode(errors='replace')}".strip() if wrong else ""
