"""Chat answers as upstreams send them, read so far as other dialects are written from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from gateway.errors import UpstreamBroken
from gateway.wire.sse import ends, payload_of


class ToolFunction(Struct):
    name: str | None = None
    arguments: str | None = None


class ToolCall(Struct):
    """A call, or a piece of one; `extra_content` is what its vendor wants back with it."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: ToolFunction | None = None
    extra_content: Any = None  # msgspec reads `Raw | None` as null only


class Said(Struct):
    """A message, or a piece of one."""

    content: str | list[Any] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    tool_calls: list[ToolCall] | None = None
    extra_content: Any = None
    thinking_blocks: Any = None

    @property
    def text(self) -> str:
        """The text, parts joined."""
        if isinstance(self.content, list):
            return "".join(str(part.get("text") or "") for part in self.content if isinstance(part, dict))
        return self.content or ""

    @property
    def thought(self) -> str:
        """The reasoning as far as it is shown, under either of its two names."""
        return self.reasoning_content or (self.reasoning if isinstance(self.reasoning, str) else "")


class Choice(Struct):
    index: int | None = None
    message: Said | None = None
    delta: Said | None = None
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None
    # The stop sequence that was met, as vLLM and SGLang name it; both also say the id of a token here.
    stop_reason: Any = None
    matched_stop: Any = None

    @property
    def said(self) -> Said:
        """The message of a whole answer, the delta of a chunk."""
        return self.message or self.delta or _NOTHING


class ChatReply(Struct):
    """A whole answer or one chunk."""

    id: str | None = None
    model: str | None = None
    choices: list[Choice] | None = None
    usage: dict[str, Any] | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    fingerpost: dict[str, Any] | None = None


_NOTHING = Said()
_REPLY = msgspec.json.Decoder(ChatReply)


def read_reply(body: bytes) -> ChatReply:
    """A whole answer or the payload of one chunk; `UpstreamBroken` where it is not one."""
    try:
        return _REPLY.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamBroken("The upstream's answer is not one of OpenAI's chat dialect.") from error


def read_events(frame: bytes) -> Iterator[ChatReply | None]:
    """The chunks of a frame of whole events, None for the end mark; comments are passed over."""
    for text in frame.split(b"\n\n")[:-1]:
        if ends(text):
            yield None
            continue
        payload = payload_of(text)
        if payload:
            yield read_reply(payload)
