"""OpenAI's older and newer request forms (/completions, /responses), sent and passed back as they are.

Only what the gateway must know is touched: the model's name, the bound on output, the wish for usage.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator

import msgspec
from msgspec import Raw

from gateway.errors import UpstreamBroken, UpstreamError
from gateway.providers.http import HttpReply
from gateway.providers.refusal import error_detail
from gateway.wire.chat_request import ChatRequest, Original
from gateway.wire.sse import EVENT_LIMIT, EventCutter, payload_of
from policies.catalogue import Endpoint

PATHS = {"completions": "/completions", "responses": "/responses"}
TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})
_BOUNDS = {"completions": "max_tokens", "responses": "max_output_tokens"}
_ACTED_ON = ("models", "previous_response_id")
_MAY_END = re.compile(rb'response\.(?:completed|incomplete|failed)|"error"')
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def spoken_here(request: ChatRequest, row: Endpoint) -> Original | None:
    """The client's own form of the request, where this endpoint takes it."""
    original = request.original
    return original if original is not None and original.dialect in row.dialects else None


def native_body(request: ChatRequest, original: Original, wire_model: str) -> bytes:
    """The client's fields with the model's wire name; what the gateway itself has acted on is left out."""
    fields = {name: raw for name, raw in original.fields.items() if name not in _ACTED_ON}
    fields["model"] = Raw(msgspec.json.encode(wire_model))
    if request.cap_tokens is not None:
        name = _BOUNDS[original.dialect]
        given = msgspec.json.decode(fields[name]) if name in fields else None
        fields[name] = Raw(msgspec.json.encode(min(request.cap_tokens, given or request.cap_tokens)))
    if original.dialect == "completions" and request.stream and not request.wants_usage:
        given = msgspec.json.decode(fields["stream_options"]) if "stream_options" in fields else None
        fields["stream_options"] = Raw(msgspec.json.encode({**(given or {}), "include_usage": True}))
    return msgspec.json.encode(fields)


async def response_events(reply: HttpReply, secret: str | None) -> AsyncGenerator[bytes, None]:
    """The events of a streamed response up to the one that ends it; an `error` event is raised."""
    cutter = EventCutter(EVENT_LIMIT)
    try:
        async for block in reply.blocks():
            frame = cutter.feed(block)
            if not _MAY_END.search(frame):
                if frame:
                    yield frame
                continue
            for text in frame.split(b"\n\n")[:-1]:
                kind = _kind(text)
                if kind == "error":
                    detail = error_detail(payload_of(text), secret)
                    raise UpstreamError(detail["message"] or "The upstream failed.")
                yield text + b"\n\n"
                if kind in TERMINAL:
                    await reply.finish()
                    return
        if cutter.rest:
            raise UpstreamBroken("The upstream's stream ended in the middle of an event.")
    finally:
        reply.cancel()


def _kind(text: bytes) -> str:
    """The type of one event, "error" also for errors in chat's dress; "" where it can't be read."""
    try:
        found = msgspec.json.decode(payload_of(text))
    except _UNREADABLE:
        return ""
    if not isinstance(found, dict):
        return ""
    kind = found.get("type")
    if isinstance(kind, str) and kind:
        return kind
    return "error" if found.get("error") else ""
