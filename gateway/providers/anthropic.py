"""Anthropic's Messages API: clients of that dialect pass as they are, all others are translated both ways."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

import msgspec

from gateway.errors import UnsupportedCapability, UpstreamBroken
from gateway.providers.anthropic_native import VERSION, count_body, failure, is_end, native_body, native_headers
from gateway.providers.base import Target
from gateway.providers.find import Supplies
from gateway.providers.http import HttpClient, HttpReply, Timeouts
from gateway.providers.refusal import refusal, unexpected
from gateway.wire.chat_request import ChatRequest
from gateway.wire.chat_to_messages import messages_body
from gateway.wire.embeddings_request import EmbeddingsRequest
from gateway.wire.messages_reader import EventReader, completion_of
from gateway.wire.reply import Reply
from gateway.wire.sse import EVENT_LIMIT, EventCutter, payload_of

DEFAULT_MAX_TOKENS = 4096
# A comment, which tells a waiting client that the upstream is alive.
ALIVE = b": ping\n\n"

Headers = dict[str, str]


def provide(supplies: Supplies) -> AnthropicProvider:
    """The provider `anthropic`."""
    return AnthropicProvider(supplies.http, supplies.max_reply_bytes)


class AnthropicProvider:
    """Speaks to `{base_url}/messages`; a chat request that says what this API has no word for is refused by name."""

    def __init__(self, client: HttpClient, reply_limit: int) -> None:
        self._client = client
        self._reply_limit = reply_limit
        self._prepared: dict[str, tuple[Target, str, Headers, Timeouts]] = {}

    async def open(self, request: ChatRequest, target: Target) -> Reply:
        native = request.original if request.original and request.original.dialect == "messages" else None
        if native is not None:
            body = native_body(native, target.wire_model, request.cap_tokens)
            reply = await self._post("/messages", body, target, native_headers(request), request.stream)
            frames = _events(reply, target.api_key) if request.stream else _whole(reply, self._reply_limit)
            return Reply(frames, stream=request.stream, dialect="messages")
        if request.native_only is not None:
            raise UnsupportedCapability(request.native_only)
        body = messages_body(request, target.wire_model, target.card.max_output_tokens or DEFAULT_MAX_TOKENS)
        reply = await self._post("/messages", body, target, dict(request.upstream_headers), request.stream)
        if request.stream:
            return Reply(_chunks(_events(reply, target.api_key)), stream=True)
        return Reply(_completion(_whole(reply, self._reply_limit)), stream=False)

    async def count_tokens(self, request: ChatRequest, target: Target) -> int:
        """Prompt tokens as Anthropic counts them, for a request in its own dialect or in chat's."""
        body = count_body(request, target.wire_model)
        reply = await self._post("/messages/count_tokens", body, target, native_headers(request), stream=False)
        try:
            found = msgspec.json.decode(await reply.read(self._reply_limit))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamBroken("The upstream's count is not valid JSON.") from error
        tokens = found.get("input_tokens") if isinstance(found, dict) else None
        if not isinstance(tokens, int):
            raise UpstreamBroken("The upstream's count has no 'input_tokens'.")
        return tokens

    async def embed(self, request: EmbeddingsRequest, target: Target) -> bytes:
        raise UnsupportedCapability("Anthropic's API has no embeddings.", param="model")

    async def warm(self, target: Target) -> None:
        """Nothing: connections are made when they are needed."""

    async def close(self) -> None:
        await self._client.close()

    async def _post(self, path: str, body: bytes, target: Target, passed_on: Headers, stream: bool) -> HttpReply:
        prepared = self._prepared.get(target.endpoint.id)
        if prepared is None or prepared[0] is not target:  # another one has another key
            prepared = self._prepare(target)
        _, base_url, headers, timeouts = prepared
        reply = await self._client.open(base_url + path, {**headers, **passed_on}, body, timeouts)
        if reply.status != 200:
            raise await refusal(reply, target.api_key)
        expected = "text/event-stream" if stream else "json"
        kind = reply.header("Content-Type")
        if expected not in kind.lower():
            reply.cancel()
            raise unexpected(kind, expected, target.api_key)
        return reply

    def _prepare(self, target: Target) -> tuple[Target, str, Headers, Timeouts]:
        row = target.endpoint
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "fingerpost"}
        headers["anthropic-version"] = VERSION
        if target.api_key:
            headers["x-api-key"] = target.api_key
        timeouts = Timeouts(row.connect_timeout_s, row.first_byte_timeout_s, row.idle_timeout_s, row.total_timeout_s)
        prepared = (target, (target.base_url or "").rstrip("/"), headers, timeouts)
        self._prepared[row.id] = prepared
        return prepared


async def _whole(reply: HttpReply, limit: int) -> AsyncGenerator[bytes, None]:
    try:
        body = await reply.read(limit)
        if not body.lstrip().startswith(b"{"):
            raise UpstreamBroken("The upstream's answer is not a JSON object.")
        yield body
    finally:
        reply.cancel()


async def _completion(whole: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(whole) as frames:
        async for body in frames:
            yield completion_of(body)


async def _events(reply: HttpReply, secret: str | None) -> AsyncGenerator[bytes, None]:
    """Frames of whole events, byte for byte, up to `message_stop`; an `error` event is raised."""
    cutter = EventCutter(EVENT_LIMIT)
    try:
        async for block in reply.blocks():
            frame = cutter.feed(block)
            if b"message_stop" not in frame and b"error" not in frame:
                if frame:
                    yield frame
                continue
            for event in _until_end(frame, secret):
                yield event
                if is_end(event):
                    await reply.finish()
                    return
        if cutter.rest:
            raise UpstreamBroken("The upstream's stream ended in the middle of an event.")
    finally:
        reply.cancel()


def _until_end(frame: bytes, secret: str | None) -> Iterator[bytes]:
    for text in frame.split(b"\n\n")[:-1]:
        error = failure(text, secret)
        if error is not None:
            raise error
        yield text + b"\n\n"


async def _chunks(events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Events of this API as chunks of the chat dialect."""
    reader = EventReader()
    async with aclosing(events) as frames:
        async for frame in frames:
            said = b"".join(reader.read(payload) for text in frame.split(b"\n\n") if (payload := payload_of(text)))
            yield said or ALIVE
            if reader.ended:
                return
