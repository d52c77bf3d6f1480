"""Any upstream that speaks OpenAI's dialects over HTTP: most vendors, vLLM, Ollama, llama.cpp, another Fingerpost."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator

import msgspec

from gateway.errors import UnsupportedCapability, UpstreamBroken, UpstreamError
from gateway.providers.base import Target
from gateway.providers.find import Supplies
from gateway.providers.http import HttpClient, HttpReply
from gateway.providers.openai_native import PATHS, native_body, response_events, spoken_here
from gateway.providers.refusal import error_detail
from gateway.providers.upstream import Upstream
from gateway.wire.chat_plain import plain
from gateway.wire.chat_request import ChatRequest, Original
from gateway.wire.chat_vendors import suited
from gateway.wire.embeddings_request import EmbeddingsRequest
from gateway.wire.reply import Reply
from gateway.wire.rerank_request import RerankRequest
from gateway.wire.sse import DONE, EVENT_LIMIT, EventCutter, ends, payload_of


def provide(supplies: Supplies) -> OpenAIProvider:
    """The provider `openai`."""
    return OpenAIProvider(supplies.http, supplies.max_reply_bytes)


class OpenAIProvider:
    """Forwards bodies with the model's wire name spliced in; frames come back as the upstream sent them."""

    def __init__(self, client: HttpClient, reply_limit: int) -> None:
        self._upstream = Upstream(client, reply_limit, "Authorization", "Bearer ")

    async def open(self, request: ChatRequest, target: Target) -> Reply:
        if request.original is not None:
            native = spoken_here(request, target.endpoint)
            if native is not None:
                return await self._open_native(request, native, target)
        if request.native_only is not None:
            raise UnsupportedCapability(request.native_only)
        if "chat" not in target.endpoint.dialects:
            raise UnsupportedCapability(f"'{target.endpoint.id}' takes {' and '.join(target.endpoint.dialects)} only.")
        if request.original is not None:
            request = plain(request, target.base_url)
        body = suited(request, target.base_url).wire_body(target.wire_model)
        reply = await self._upstream.post("/chat/completions", body, target, request.stream, request.upstream_headers)
        if request.stream:
            return Reply(frames=_events(reply, target.api_key), stream=True)
        return Reply(frames=self._upstream.whole(reply), stream=False)

    async def _open_native(self, request: ChatRequest, native: Original, target: Target) -> Reply:
        body = native_body(request, native, target.wire_model)
        reply = await self._upstream.post(PATHS[native.dialect], body, target, request.stream, request.upstream_headers)
        if not request.stream:
            return Reply(frames=self._upstream.whole(reply), stream=False, dialect=native.dialect)
        events = response_events if native.dialect == "responses" else _events
        return Reply(frames=events(reply, target.api_key), stream=True, dialect=native.dialect)

    async def embed(self, request: EmbeddingsRequest, target: Target) -> bytes:
        reply = await self._upstream.post("/embeddings", request.wire_body(target.wire_model), target, stream=False)
        return await self._upstream.read(reply)

    async def rerank(self, request: RerankRequest, target: Target) -> bytes:
        reply = await self._upstream.post("/rerank", request.wire_body(target.wire_model), target, stream=False)
        return await self._upstream.read(reply)

    async def warm(self, target: Target) -> None:
        """Nothing: connections are made when they are needed."""

    async def close(self) -> None:
        await self._upstream.close()


async def _events(reply: HttpReply, secret: str | None) -> AsyncGenerator[bytes, None]:
    cutter = EventCutter(EVENT_LIMIT)
    try:
        async for block in reply.blocks():
            frame = cutter.feed(block)
            if b'"error"' not in frame and b"[DONE]" not in frame:
                if frame:
                    yield frame
                continue
            for event in _until_error(frame, secret):
                yield event
                if event == DONE:
                    await reply.finish()
                    return
        if ends(cutter.rest):
            yield DONE
        elif cutter.rest:
            raise UpstreamBroken("The upstream's stream ended in the middle of an event.")
    finally:
        reply.cancel()


def _until_error(frame: bytes, secret: str | None) -> Iterator[bytes]:
    """The events of a frame up to the end mark, put into its usual form, or up to an error, which is raised."""
    for text in frame.split(b"\n\n")[:-1]:
        if ends(text):
            yield DONE
            return
        error = _error_of(text)
        if error is not None:
            raise UpstreamError(error_detail(error, secret)["message"] or "The upstream failed.")
        yield text + b"\n\n"


def _error_of(text: bytes) -> bytes | None:
    """The payload of an event that reports a failure, or None."""
    if b'"error"' not in text:
        return None
    payload = payload_of(text)
    try:
        found = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    failed = isinstance(found, dict) and found.get("error") and not found.get("choices")
    return payload if failed else None
