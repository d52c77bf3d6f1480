"""`fingerpost serve`: check, migrate, hand out the first keys, answer."""

from __future__ import annotations

import asyncio
import shutil
import sys
import threading
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from gateway.admission.grants import Role
from gateway.admission.key_store import KeyStore
from gateway.build import build
from gateway.cli.database import shown
from gateway.cli.fleet import use_stored_keys
from gateway.cli.output import fail, settings_or_fail
from gateway.ledger.engine import open_engine
from gateway.ledger.revision import upgraded
from gateway.server import open_socket, run
from gateway.settings import Settings

LEAST_FREE_BYTES = 200 * 1024 * 1024
LEAST_KEY_CHARS = 16
QUESTION = "What is the capital of France?"


@dataclass(frozen=True, slots=True)
class FirstKeys:
    """Keys made at this start, to be shown once; empty at later starts."""

    admin: str = ""
    application: str = ""


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 0 for any [8080].")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that answer [1].")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where files are kept [./data].")] = None,
) -> None:
    """Serve the gateway until it is told to stop."""
    settings = settings_or_fail(host=host, port=port, workers=workers, data_dir=data_dir)
    check_given_keys(settings)
    step(f"data       {prepare_folder(settings.data_dir)}")
    listener = open_socket(settings)
    settings = settings.model_copy(update={"port": listener.getsockname()[1]})
    step(f"database   {shown(settings)} at {upgraded(settings.sql_url)}")
    usable = check_configuration(settings)
    step(f"models     {len(usable)} usable: {', '.join(usable[:6])}{' …' if len(usable) > 6 else ''}")
    keys = asyncio.run(first_keys(settings))
    for line in key_lines(keys):
        print(line, flush=True)
    if settings.preload and any(one == "smollm2-135m-instruct" for one in usable):
        step("loading    local models")
    settings.to_environment()
    threading.Thread(target=announce, args=(settings, keys), daemon=True).start()
    run(settings, listener)


def step(line: str) -> None:
    """Progress goes to standard error, so that standard output keeps the lines that scripts read."""
    print(f"  {line}", file=sys.stderr, flush=True)


def prepare_folder(folder: Path) -> Path:
    """The data folder, made, writable and with room; one clear line otherwise."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".write-test"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        fail(
            f"the data folder {folder.resolve()} can't be written ({error.strerror}); choose another with "
            "FINGERPOST_DATA_DIR or serve's --data-dir"
        )
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES:
        fail(
            f"only {free // 2**20} MiB are free under {folder.resolve()}; at least {LEAST_FREE_BYTES // 2**20} MiB "
            "are needed: make room, or choose another folder with FINGERPOST_DATA_DIR or serve's --data-dir"
        )
    return folder.resolve()


def check_configuration(settings: Settings) -> list[str]:
    """Names of the models that can be used; `PolicyError` where the catalogue or a policy is wrong."""
    gateway = build(settings)

    async def load() -> None:
        try:
            await use_stored_keys(gateway)
            await gateway.policies.load()
        finally:
            await gateway.engine.dispose()

    asyncio.run(load())
    return [card.id for card in gateway.fleet.models()]


def check_given_keys(settings: Settings) -> None:
    """One clear line where a key from the settings is easily guessed, or stands for both roles."""
    admin, application = settings.admin_key, settings.bootstrap_key
    for name, key in (("FINGERPOST_ADMIN_KEY", admin), ("FINGERPOST_BOOTSTRAP_KEY", application)):
        if key is not None and len(key.get_secret_value().strip()) < LEAST_KEY_CHARS:
            fail(f"{name} is shorter than {LEAST_KEY_CHARS} characters; take a longer one, or unset it to get one made")
    if admin is not None and admin == application:
        fail("FINGERPOST_ADMIN_KEY and FINGERPOST_BOOTSTRAP_KEY are the same key; they need different ones")


async def first_keys(settings: Settings) -> FirstKeys:
    """Make sure that an admin key and an application key exist; those given by settings are used as they are."""
    engine = open_engine(settings.sql_url)
    store = KeyStore(engine)
    given: tuple[tuple[Role, SecretStr | None], ...] = (
        ("admin", settings.admin_key),
        ("application", settings.bootstrap_key),
    )
    made: dict[Role, str] = {"admin": "", "application": ""}
    try:
        for role, secret in given:
            if secret is not None:
                await store.import_key(secret.get_secret_value(), role=role, name=f"{role} key from settings")
            elif not await store.count(role):
                _, made[role] = await store.issue(name=f"first {role} key", role=role)
    except ValueError as error:
        fail(str(error))
    finally:
        await engine.dispose()
    return FirstKeys(made["admin"], made["application"])


def key_lines(keys: FirstKeys) -> list[str]:
    """What is printed of new keys, once."""
    lines = []
    if keys.admin:
        lines.append(f"admin key (shown once, keep it): {keys.admin}")
    if keys.application:
        lines.append(f"application key (shown once, keep it): {keys.application}")
    return lines


def announce(settings: Settings, keys: FirstKeys) -> None:
    """Wait until the gateway answers, then say so, with a request to paste."""
    host = reachable(settings.host)
    while not _is_ready(host, settings.port):
        time.sleep(0.1)
    base = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    shown = f"http://{f'[{settings.host}]' if ':' in settings.host else settings.host}:{settings.port}"
    token = keys.application or "$FINGERPOST_KEY"
    print(f"ready {shown}", flush=True)
    if not keys.application:
        print(_key_hint(settings), flush=True)
    print(
        f"curl {base}/v1/chat/completions -H 'Content-Type: application/json' -H \"Authorization: Bearer {token}\" "
        f'-d \'{{"model": "auto", "messages": [{{"role": "user", "content": "{QUESTION}"}}]}}\'',
        flush=True,
    )


def reachable(host: str) -> str:
    """Where a client on this machine finds what listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def _key_hint(settings: Settings) -> str:
    if settings.bootstrap_key is not None:
        known = "the application key that FINGERPOST_BOOTSTRAP_KEY gave"
    else:
        known = "the application key printed at the first start; `fingerpost key issue NAME` makes another"
    return f"key: export FINGERPOST_KEY=<{known}>"


def _is_ready(host: str, port: int) -> bool:
    connection = HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except (TimeoutError, OSError, HTTPException):
        return False
    finally:
        connection.close()
