"""`fingerpost route` and `fingerpost chat`: ask from the terminal, in this process or through a running gateway."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from time import perf_counter, time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from gateway.admission.rules import Caller
from gateway.build import build
from gateway.cli.output import fail, print_json, print_table, settings_or_fail
from gateway.cli.serve import prepare_folder
from gateway.errors import GatewayError
from gateway.incoming import Incoming
from gateway.ledger.record import Record
from gateway.ledger.revision import upgraded
from gateway.lifecycle.run import close, start
from gateway.state import Gateway
from gateway.wire.chat_request import ChatRequest, parse_chat
from gateway.wire.explanation import explanation

if TYPE_CHECKING:
    import httpx

Prompt = Annotated[str, typer.Argument(help="What to ask; - reads standard input.")]
Model = Annotated[str, typer.Option(help="auto, auto:POLICY, or a model's id.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def route(prompt: Prompt, model: Model = "auto", as_json: Json = False) -> None:
    """Explain what would be chosen for a prompt, and why; nothing is called."""
    found = asyncio.run(_explained(_request(prompt, model, stream=False)))
    if as_json:
        print_json(found)
        return
    chosen = found["chosen"]
    print(f"{chosen['model']} at {chosen['endpoint']} (policy {found['policy']}, category {found['category']})")
    print(found["reason"])
    columns = ("endpoint", "quality", "cost $", "latency ms", "score", "propensity")
    rows = [
        (
            one["endpoint"],
            f"{one['quality']['mean']:.2f}",
            "unknown" if one["cost_usd"] is None else f"{one['cost_usd']:.6f}",
            f"{one['latency_ms']:.0f}",
            f"{one['score']:.3f}",
            f"{one['propensity']:.2f}",
        )
        for one in found["candidates"]
    ]
    print_table(columns, rows)
    for one in found["excluded"]:
        print(f"not {one['endpoint']}: {one['reason']}")


def chat(
    prompt: Prompt,
    model: Model = "auto",
    url: Annotated[str | None, typer.Option(help="A running gateway; without it this process answers.")] = None,
    key: Annotated[str | None, typer.Option(help="An application key for --url [FINGERPOST_KEY].")] = None,
    as_json: Json = False,
) -> None:
    """Send a prompt and print the answer as it comes."""
    request = _request(prompt, model, stream=not as_json)
    frames = _remote(request, url, key or _configured_key()) if url else _here(request)
    asyncio.run(_print(frames, as_json))


def _request(prompt: str, model: str, stream: bool) -> ChatRequest:
    try:
        text = sys.stdin.read() if prompt == "-" else prompt
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}
        return parse_chat(msgspec.json.encode(body))
    except UnicodeError:
        fail("the prompt or the model's name is not UTF-8")
    except GatewayError as error:
        fail(error.message)


def _configured_key() -> str:
    key = settings_or_fail().key
    if key is None:
        fail("give an application key with --key, or set FINGERPOST_KEY")
    return key.get_secret_value()


async def _gateway() -> Gateway:
    settings = settings_or_fail(preload=False)
    prepare_folder(settings.data_dir)
    await asyncio.to_thread(upgraded, settings.sql_url)
    return build(settings)


def _incoming() -> Incoming:
    record = Record(id=f"req_cli_{time():.6f}".replace(".", ""), at=time(), route="cli", key_id="cli")
    caller = Caller(key_id="cli", role="admin", policy=None, allowed_models=None)
    return Incoming(b"", caller, record, perf_counter(), {})


async def _explained(request: ChatRequest) -> dict[str, Any]:
    gateway = await _gateway()
    await start(gateway)
    try:
        await gateway.preparing()
        incoming = _incoming()
        record = incoming.record
        record.model_requested = request.envelope.model
        _, query, decision = await gateway.pipeline.decide(request, incoming)
        return explanation(query, decision, record)
    except GatewayError as error:
        fail(error.message, code=1)
    finally:
        await close(gateway)


async def _here(request: ChatRequest) -> AsyncIterator[bytes]:
    gateway = await _gateway()
    await start(gateway)
    try:
        await gateway.preparing()
        incoming = _incoming()
        record = incoming.record
        reply = await gateway.pipeline.chat(request, incoming)
        async for frame in reply.frames:
            yield frame
        print(f"[{record.model} at {record.endpoint}: {record.reason}]", file=sys.stderr)
    except GatewayError as error:
        fail(error.message, code=1)
    finally:
        await close(gateway)


async def _remote(request: ChatRequest, url: str, key: str) -> AsyncIterator[bytes]:
    # Here, so that a serving process need not hold what only this command uses.
    import httpx
    from httpx_aiohttp import AiohttpTransport

    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    address = f"{url.rstrip('/').removesuffix('/v1')}/v1/chat/completions"
    async with httpx.AsyncClient(transport=AiohttpTransport(), timeout=300, follow_redirects=False) as client:
        try:
            async with client.stream(
                "POST", address, content=msgspec.json.encode(request.fields), headers=headers
            ) as reply:
                if reply.status_code != 200:
                    fail(_complaint(await reply.aread()) or f"{address} answered {reply.status_code}", code=1)
                async for line in reply.aiter_lines() if request.stream else _once(reply):
                    yield line.encode() + b"\n\n"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            fail(f"{address} can't be reached: {str(error) or type(error).__name__}", code=1)


def _complaint(body: bytes) -> str:
    """The message of an error in OpenAI's shape, or whatever was said instead."""
    try:
        return str(msgspec.json.decode(body)["error"]["message"])
    except (msgspec.DecodeError, UnicodeError, KeyError, TypeError):
        return body.decode(errors="replace")[:500]


async def _once(reply: httpx.Response) -> AsyncIterator[str]:
    yield (await reply.aread()).decode()


async def _print(frames: AsyncIterator[bytes], as_json: bool) -> None:
    async for frame in frames:
        if as_json:
            print_json(msgspec.json.decode(frame))
            continue
        for event in frame.split(b"\n\n"):
            if event.startswith(b"data: {"):
                _print_event(msgspec.json.decode(event[6:]))
    if not as_json:
        print()


def _print_event(payload: dict[str, Any]) -> None:
    if payload.get("error"):
        fail(payload["error"]["message"], code=1)
    for choice in payload.get("choices", ()):
        print(choice.get("delta", {}).get("content") or "", end="", flush=True)
