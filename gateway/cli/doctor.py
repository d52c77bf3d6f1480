"""`fingerpost doctor`: looks at everything the gateway leans on, and says how to mend what is broken."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from gateway.admission.terms import SecretKeyError
from gateway.cli.database import database_file
from gateway.cli.fleet import refusal, usable_fleet
from gateway.cli.output import print_json, settings_or_fail
from gateway.cli.serve import LEAST_FREE_BYTES, reachable
from gateway.ledger.engine import DatabaseUrlError
from gateway.ledger.faults import DatabaseUnavailable, SchemaError
from gateway.local import embedder_fault, engine_fault, kernels_told
from gateway.redaction import Redactor
from gateway.server import PortTaken, open_socket
from gateway.settings import Settings
from policies.errors import PolicyError

BUNDLED = "bundled:smollm2"
USAGE_DAYS = 7


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
    mend = f"make {folder} writable, or choose another folder: FINGERPOST_DATA_DIR"
    try:
        free = _free_bytes(folder)
    except OSError as error:
        yield Finding("disk", False, f"{folder} can't be written: {error.strerror}", mend)
        return
    text = f"{free // 2**20} MiB free under {folder}"
    yield Finding("disk", free >= LEAST_FREE_BYTES, text, "make room, or set FINGERPOST_DATA_DIR")


def _free_bytes(folder: Path) -> int:
    """Room in a folder that is writable, or that could be made; leaves nothing behind. `OSError` where it can't."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    with tempfile.TemporaryFile(dir=there):
        return shutil.disk_usage(there).free


def _database(settings: Settings) -> Iterator[Finding]:
    from gateway.ledger import schema

    try:
        path = database_file(settings)
        if path is not None and not path.exists():
            yield Finding("database", True, "made at the first start")
            return
        # SQLite needs both: it keeps its write-ahead log beside the file.
        locked = [one for one in (path, path.parent) if not os.access(one, os.W_OK)] if path is not None else []
        if locked:
            yield Finding("database", False, f"{locked[0]} can't be written", f"make {locked[-1]} writable")
            return
        state = schema.check(settings.sql_url)
    except (SchemaError, DatabaseUrlError, OSError) as error:
        yield Finding("database", False, str(error), "start it, or correct FINGERPOST_DATABASE_URL")
        return
    yield Finding("database", not state.problem, state.problem or f"at {state.current}", "fingerpost db upgrade")
    if not state.problem:
        yield from _usage(settings)


def _usage(settings: Settings) -> Iterator[Finding]:
    from gateway.cli.rolling_up import uncounted

    try:
        off = asyncio.run(uncounted(settings.sql_url, USAGE_DAYS, time.time()))
    except DatabaseUnavailable as error:
        yield Finding("usage", False, str(error), "start it, or correct FINGERPOST_DATABASE_URL")
        return
    text = f"sums of the last {USAGE_DAYS} days are {f'off by {off} requests' if off else 'what the log says'}"
    yield Finding("usage", not off, text, "fingerpost db rollup")


def _redis(settings: Settings) -> Iterator[Finding]:
    if not settings.redis_url:
        share = f", 1/{settings.workers} of each by each worker" if settings.workers > 1 else ""
        yield Finding("redis", True, f"not configured; budgets are kept in the database, limits by each process{share}")
        return
    from redis import Redis, RedisError

    mend = "start it, or correct FINGERPOST_REDIS_URL (redis://:password@host:6379/0)"
    try:
        with Redis.from_url(settings.redis_url, socket_timeout=2, socket_connect_timeout=2) as client:
            found = client.info()
            policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "noeviction")
    except (RedisError, OSError, ValueError) as error:
        reason = "FINGERPOST_REDIS_URL is not a URL" if isinstance(error, ValueError) else type(error).__name__
        yield Finding("redis", False, f"{reason}: it does not answer as a Redis server", mend)
        return
    evicts = policy != "noeviction"
    text = f"version {found['redis_version']}" + (
        f", evicts keys ({policy}): budgets could be forgotten" if evicts else ""
    )
    yield Finding("redis", not evicts, text, "set maxmemory-policy noeviction")


def _model_files(_: Settings) -> Iterator[Finding]:
    fault = engine_fault(BUNDLED)
    yield Finding("local model", fault is None, fault or BUNDLED, "make install, or use remote endpoints only")
    if fault is None:
        yield Finding("kernels", True, kernels_told())


def _embedder(settings: Settings) -> Iterator[Finding]:
    fault = embedder_fault(settings.embedder)
    yield Finding("embedder", fault is None, fault or settings.embedder, "make install; without it only rules route")


def _port(settings: Settings) -> Iterator[Finding]:
    try:
        open_socket(settings).close()
    except PortTaken as error:
        where = f"{settings.host}:{settings.port}"
        if _is_ours(settings):
            yield Finding("port", True, f"{where} is in use by a running gateway")
        else:
            yield Finding("port", False, str(error), "stop what uses it, or choose another: FINGERPOST_PORT")
        return
    yield Finding("port", True, f"{settings.host}:{settings.port} is free")


def _is_ours(settings: Settings) -> bool:
    connection = HTTPConnection(reachable(settings.host), settings.port, timeout=2)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().read(64) == b'{"status":"live"}'
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _endpoints(settings: Settings) -> Iterator[Finding]:
    try:
        fleet = usable_fleet(settings.model_copy(update={"redis_url": ""}))  # that one has its own finding
    except SecretKeyError as error:
        yield Finding("secrets", False, "keys that encrypt can't be used", str(error))
        return
    except PolicyError as error:
        yield Finding("catalogue", False, str(error), "correct the file that FINGERPOST_CATALOGUE names")
        return
    yield Finding(
        "catalogue", bool(fleet.targets), f"{len(fleet.targets)} endpoints enabled", "fingerpost models --all"
    )
    urls = sorted({target.base_url for target in fleet.targets.values() if target.base_url})
    redact = Redactor()
    for url, fault in asyncio.run(_reach(settings, urls)):
        yield Finding(
            "endpoint", fault is None, redact(f"{url}: {fault or 'answers'}"), "check the URL, the network and the key"
        )


async def _reach(settings: Settings, urls: list[str]) -> list[tuple[str, str | None]]:
    """Any HTTP answer will do: the question is whether somebody is there. What the gateway won't call isn't called."""
    # Here, so that a serving process need not hold what only this command uses.
    import httpx
    from httpx_aiohttp import AiohttpTransport

    async def look(client: httpx.AsyncClient, url: str) -> tuple[str, str | None]:
        refused = await refusal(settings, url)
        if refused is not None:
            return url, refused
        try:
            await client.get(url)
        except httpx.HTTPError as error:
            return url, str(error) or type(error).__name__
        return url, None

    async with httpx.AsyncClient(transport=AiohttpTransport(), timeout=5, follow_redirects=False) as client:
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
