"""Anthropic's Messages API: clients of that dialect pass as they are, all others are translated both ways."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

import msgspec

from gateway.errors import UnsupportedCapability, UpstreamBroken
from gateway.providers.anthropic_native import VERSION, count_body, failure, is_end, native_body, native_headers
from gateway.providers.base import Target
from gateway.providers.find import Supplies
from gateway.providers.http import HttpClient, HttpReply
from gateway.providers.upstream import Upstream
from gateway.wire.chat_request import ChatRequest
from gateway.wire.chat_to_messages import messages_body
from gateway.wire.embeddings_request import EmbeddingsRequest
from gateway.wire.messages_reader import EventReader, completion_of
from gateway.wire.reply import Reply
from gateway.wire.sse import EVENT_LIMIT, EventCutter, payload_of

DEFAULT_MAX_TOKENS = 4096
# A comment, which tells a waiting client that the upstream is alive.
ALIVE = b": ping\n\n"


def provide(supplies: Supplies) -> AnthropicProvider:
    """The provider `anthropic`."""
    return AnthropicProvider(supplies.http, supplies.max_reply_bytes)


class AnthropicProvider:
    """Speaks to `{base_url}/messages`; a chat request that says what this API has no word for is refused by name."""

    def __init__(self, client: HttpClient, reply_limit: int) -> None:
        self._upstream = Upstream(client, reply_limit, "x-api-key", more=[("anthropic-version", VERSION)])

    async def open(self, request: ChatRequest, target: Target) -> Reply:
        native = request.original if request.original and request.original.dialect == "messages" else None
        if native is not None:
            body = native_body(native, target.wire_model, request.cap_tokens)
            reply = await self._upstream.post(
                "/messages", body, target, request.stream, native_headers(request).items()
            )
            frames = _events(reply, target.api_key) if request.stream else self._upstream.whole(reply)
            return Reply(frames, stream=request.stream, dialect="messages")
        if request.native_only is not None:
            raise UnsupportedCapability(request.native_only)
        body = messages_body(request, target.wire_model, target.card.max_output_tokens or DEFAULT_MAX_TOKENS)
        reply = await self._upstream.post("/messages", body, target, request.stream, request.upstream_headers)
        if request.stream:
            return Reply(_chunks(_events(reply, target.api_key)), stream=True)
        return Reply(_completion(self._upstream.whole(reply)), stream=False)

    async def count_tokens(self, request: ChatRequest, target: Target) -> int:
        """Prompt tokens as Anthropic counts them, for a request in its own dialect or in chat's."""
        body = count_body(request, target.wire_model)
        reply = await self._upstream.post("/messages/count_tokens", body, target, False, native_headers(request))
        try:
            found = msgspec.json.decode(await self._upstream.read(reply))
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
        await self._upstream.close()


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
