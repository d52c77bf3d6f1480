"""Google's Gemini API: generateContent and its stream, asked and answered in the chat dialect."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import msgspec

from gateway.errors import UnsupportedCapability, UpstreamBroken, UpstreamError
from gateway.providers.base import Target
from gateway.providers.find import Supplies
from gateway.providers.http import HttpClient, HttpReply
from gateway.providers.refusal import error_detail
from gateway.providers.upstream import Upstream
from gateway.wire.chat_request import ChatRequest
from gateway.wire.chat_to_gemini import gemini_body
from gateway.wire.embeddings_request import EmbeddingsRequest
from gateway.wire.gemini_to_chat import ChatFromGemini
from gateway.wire.reply import Reply
from gateway.wire.sse import EVENT_LIMIT, EventCutter, payload_of

_WHOLE, _STREAM = "generateContent", "streamGenerateContent?alt=sse"
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def provide(supplies: Supplies) -> GeminiProvider:
    """The provider `gemini`."""
    return GeminiProvider(supplies.http, supplies.max_reply_bytes)


class GeminiProvider:
    """Translates both ways; `base_url` ends in the API's version, such as https://…/v1beta."""

    def __init__(self, client: HttpClient, reply_limit: int) -> None:
        self._upstream = Upstream(client, reply_limit, "x-goog-api-key")

    async def open(self, request: ChatRequest, target: Target) -> Reply:
        if request.native_only is not None:
            raise UnsupportedCapability(request.native_only)
        body = gemini_body(request, target.wire_model)
        name = target.wire_model if "/" in target.wire_model else f"models/{target.wire_model}"
        path = f"/{name}:{_STREAM if request.stream else _WHOLE}"
        reply = await self._upstream.post(path, body, target, request.stream, request.upstream_headers)
        writer = ChatFromGemini(target.wire_model)
        if request.stream:
            return Reply(frames=_events(reply, writer, target.api_key), stream=True)
        return Reply(frames=_whole(reply, self._upstream, writer), stream=False)

    async def embed(self, request: EmbeddingsRequest, target: Target) -> bytes:
        raise UnsupportedCapability(
            "Endpoints of provider 'gemini' answer chats; for embeddings use Google's OpenAI-compatible endpoint.",
            param="model",
        )

    async def warm(self, target: Target) -> None:
        """Nothing: connections are made when they are needed."""

    async def close(self) -> None:
        await self._upstream.close()


async def _whole(reply: HttpReply, upstream: Upstream, writer: ChatFromGemini) -> AsyncGenerator[bytes, None]:
    try:
        yield writer.whole(await upstream.read(reply))
    finally:
        reply.cancel()


async def _events(reply: HttpReply, writer: ChatFromGemini, secret: str | None) -> AsyncGenerator[bytes, None]:
    """The stream's events as chunks; Google marks no end, so that it is where the bytes end."""
    cutter = EventCutter(EVENT_LIMIT)
    try:
        async for block in reply.blocks():
            chunks = b"".join(_chunks(cutter.feed(block), writer, secret))
            if chunks:
                yield chunks
        if cutter.rest:
            raise UpstreamBroken("The upstream's stream ended in the middle of an event.")
        yield writer.end()
    finally:
        reply.cancel()


def _chunks(frame: bytes, writer: ChatFromGemini, secret: str | None) -> list[bytes]:
    payloads = [payload_of(text) for text in frame.split(b"\n\n")[:-1]]
    for payload in payloads:
        if b'"error"' in payload and _is_error(payload):
            raise UpstreamError(error_detail(payload, secret)["message"] or "The upstream failed.")
    return [writer.chunk(payload) for payload in payloads if payload]


def _is_error(payload: bytes) -> bool:
    try:
        found = msgspec.json.decode(payload)
    except _UNREADABLE:
        return False
    return isinstance(found, dict) and bool(found.get("error")) and not found.get("candidates")
