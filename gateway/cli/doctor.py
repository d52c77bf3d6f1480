"""`fingerpost doctor`: looks at everything the gateway leans on, and says how to mend what is broken."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Annotated

import httpx
import typer
from httpx_aiohttp import AiohttpTransport

from gateway.build import build
from gateway.cli.output import print_json, settings_or_fail
from gateway.cli.serve import LEAST_FREE_BYTES
from gateway.ledger import schema
from gateway.ledger.engine import DatabaseUrlError
from gateway.ledger.schema import SchemaError
from gateway.local import embedder_fault, engine_fault
from gateway.server import PortTaken, open_socket
from gateway.settings import Settings
from policies.errors import PolicyError

BUNDLED = "bundled:smollm2"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; `mend` says what to do where it is not ok."""

    check: str
    ok: bool
    found: str
    mend: str = ""


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check database, Redis, model files, embedder, ports and endpoints; exits 1 where something is broken."""
    settings = settings_or_fail()
    findings = [finding for check in CHECKS for finding in check(settings)]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.check:<12} {finding.found}")
            if finding.mend and not finding.ok:
                print(f"      {'':<12} mend: {finding.mend}")
    if not all(finding.ok for finding in findings):
        sys.exit(1)


def _python(_: Settings) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer")


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        yield Finding("disk", False, f"{folder}: {error.strerror}", "choose a writable folder: FINGERPOST_DATA_DIR")
        return
    text = f"{free // 2**20} MiB free under {folder}"
    yield Finding("disk", free >= LEAST_FREE_BYTES, text, "make room, or set FINGERPOST_DATA_DIR")


def _database(settings: Settings) -> Iterator[Finding]:
    try:
        state = schema.check(settings.sql_url)
    except (SchemaError, DatabaseUrlError, OSError) as error:
        yield Finding("database", False, str(error), "start it, or correct FINGERPOST_DATABASE_URL")
        return
    yield Finding("database", not state.problem, state.problem or f"at {state.current}", "fingerpost db upgrade")


def _redis(settings: Settings) -> Iterator[Finding]:
    if not settings.redis_url:
        yield Finding("redis", True, "not configured; the in-process store is used")
        return
    url = httpx.URL(settings.redis_url)
    try:
        with socket.create_connection((url.host, url.port or 6379), timeout=2) as connection:
            connection.sendall(b"*1\r\n$4\r\nPING\r\n")
            answer = connection.recv(64).split(b"\r\n")[0].decode(errors="replace")
    except OSError as error:
        yield Finding("redis", False, f"{url.host}: {error}", "start it, or correct FINGERPOST_REDIS_URL")
        return
    yield Finding("redis", answer.startswith(("+PONG", "-NOAUTH")), answer, "is FINGERPOST_REDIS_URL a Redis server?")


def _model_files(_: Settings) -> Iterator[Finding]:
    fault = engine_fault(BUNDLED)
    yield Finding("local model", fault is None, fault or BUNDLED, "make install, or use remote endpoints only")


def _embedder(settings: Settings) -> Iterator[Finding]:
    fault = embedder_fault(settings.embedder)
    yield Finding("embedder", fault is None, fault or settings.embedder, "make install; without it only rules route")


def _port(settings: Settings) -> Iterator[Finding]:
    try:
        open_socket(settings).close()
    except PortTaken as error:
        yield Finding("port", False, str(error), "that is fine if it is this gateway that is running")
        return
    yield Finding("port", True, f"{settings.host}:{settings.port} is free")


def _endpoints(settings: Settings) -> Iterator[Finding]:
    try:
        fleet = build(settings).fleet
    except PolicyError as error:
        yield Finding("catalogue", False, str(error), "correct the file that FINGERPOST_CATALOGUE names")
        return
    yield Finding(
        "catalogue", bool(fleet.targets), f"{len(fleet.targets)} endpoints enabled", "fingerpost models --all"
    )
    urls = sorted({target.base_url for target in fleet.targets.values() if target.base_url})
    for url, fault in asyncio.run(_reach(urls)):
        yield Finding(
            "endpoint", fault is None, f"{url}: {fault or 'answers'}", "check the URL, the network and the key"
        )


async def _reach(urls: list[str]) -> list[tuple[str, str | None]]:
    """Any HTTP answer will do: the question is whether somebody is there."""

    async def look(client: httpx.AsyncClient, url: str) -> tuple[str, str | None]:
        try:
            await client.get(url)
        except httpx.HTTPError as error:
            return url, str(error) or type(error).__name__
        return url, None

    async with httpx.AsyncClient(transport=AiohttpTransport(), timeout=5) as client:
        return list(await asyncio.gather(*(look(client, url) for url in urls)))


def _postgres(settings: Settings) -> Iterator[Finding]:
    if settings.sql_url.startswith("postgres"):
        yield Finding("asyncpg", find_spec("asyncpg") is not None, "driver", "pip install 'fingerpost[postgres]'")


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _python,
    _disk,
    _postgres,
    _database,
    _redis,
    _model_files,
    _embedder,
    _port,
    _endpoints,
)
