"""`fingerpost local`: local models without a gateway."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.output import fail, settings_or_fail
from gateway.errors import GatewayError
from gateway.server import configure_logging, open_socket, serve_alone
from gateway.settings import Settings
from local_runtime.adapters.named import parted

app = typer.Typer(help="Local models without a gateway.", no_args_is_help=True)

LEAST_KEY_CHARS = 16


@app.callback()
def _group() -> None:
    """Local models without a gateway."""


@app.command()
def serve(
    source: Annotated[str, typer.Argument(help="bundled:NAME, a .gguf file or a Hugging Face folder.")],
    name: Annotated[str | None, typer.Option(help="What clients call it [after the source].")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on [127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 0 for any [8080].")] = None,
    lora: Annotated[
        list[str] | None, typer.Option(help="NAME=FOLDER: the model with this adapter too, called NAME; repeatable.")
    ] = None,
) -> None:
    """Serve one model in OpenAI's dialect, as an endpoint for gateways elsewhere."""
    settings = settings_or_fail(host=host, port=port)
    _check_key(settings)
    sources = _sources(source, name or _called(source), lora or [])
    configure_logging(settings)
    listener = open_socket(settings)
    asyncio.run(_serve(settings, sources, listener))


async def _serve(settings: Settings, sources: Mapping[str, str], listener: socket.socket) -> None:
    from gateway.alone import alone  # FastAPI: a tenth of a second

    try:
        application = await alone(settings, sources)
    except GatewayError as error:
        listener.close()
        raise fail(error.message) from error
    address = listener.getsockname()
    url, names = f"http://{_in_url(settings.host)}:{address[1]}", ", ".join(sources)
    print(f"ready {url}  as an OpenAI base URL with /v1; model {names}", flush=True)
    await serve_alone(settings, listener, application)


def _sources(source: str, name: str, adapters: list[str]) -> dict[str, str]:
    """The source of every name."""
    sources = {name: source}
    for told in adapters:
        called, _, folder = told.partition("=")
        if not called or not folder or called in sources:
            fail(f"--lora {told}: write NAME=FOLDER, with a name that no other has")
        sources[called] = f"{source}+lora:{folder}"
    return sources


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _called(source: str) -> str:
    """bundled:smollm2 is smollm2, /models/a.gguf is a."""
    return Path(parted(source)[0].removeprefix("bundled:")).resolve().stem


def _check_key(settings: Settings) -> None:
    """Whoever can reach the port can use the model: beyond this machine it takes a key."""
    key = settings.local_key
    if key is not None and len(key.get_secret_value()) < LEAST_KEY_CHARS:
        fail(f"FINGERPOST_LOCAL_KEY is shorter than {LEAST_KEY_CHARS} characters; take a longer one")
    if key is None and not _loopback(settings.host):
        fail(f"{settings.host} can be reached from elsewhere: set FINGERPOST_LOCAL_KEY, or listen on 127.0.0.1")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
