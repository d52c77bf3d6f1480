"""Anthropic's answers as answers of the chat dialect: a whole message, or its events one by one as chunks."""

from __future__ import annotations

from time import time
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from gateway.errors import UpstreamBroken
from gateway.wire.sse import DONE, event

Words = dict[str, Any]
Count = Annotated[int, Meta(ge=0, le=2**40)]

_FINISHES = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class CacheCreation(Struct):
    ephemeral_1h_input_tokens: Count | None = None


class OutputDetails(Struct):
    thinking_tokens: Count | None = None


class MessagesUsage(Struct):
    """Counts as Anthropic tells them: what was read from a cache or written to one stands beside `input_tokens`."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation: CacheCreation | None = None
    output_tokens_details: OutputDetails | None = None

    def updated(self, later: MessagesUsage) -> MessagesUsage:
        """With what a later event tells: its counts are totals, so that none shrinks, and what it leaves out stands."""
        told = {name: value for name, value in msgspec.structs.asdict(later).items() if value is not None}
        for name, value in told.items():
            before = getattr(self, name)
            if isinstance(value, int) and isinstance(before, int):
                told[name] = max(value, before)
        return msgspec.structs.replace(self, **told)

    @property
    def written_1h(self) -> int:
        """Of the tokens written to the cache, those kept for an hour."""
        return (self.cache_creation.ephemeral_1h_input_tokens or 0) if self.cache_creation else 0

    @property
    def thought(self) -> int:
        """Of the output, what was thinking."""
        return (self.output_tokens_details.thinking_tokens or 0) if self.output_tokens_details else 0

    @property
    def prompt(self) -> int:
        """The whole prompt, as OpenAI counts it."""
        cached = (self.cache_read_input_tokens or 0) + (self.cache_creation_input_tokens or 0)
        return (self.input_tokens or 0) + cached


class Block(Struct):
    """A block of content, or the beginning of one."""

    type: str
    text: str = ""
    thinking: str = ""
    signature: str = ""
    data: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, Any] | None = None


class Message(Struct):
    id: str = ""
    model: str = ""
    content: list[Block] = msgspec.field(default_factory=list)
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: MessagesUsage = msgspec.field(default_factory=MessagesUsage)


class Delta(Struct):
    """Of a block, or of the message's end."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    stop_reason: str | None = None
    stop_sequence: str | None = None


class Event(Struct):
    """Any event of a stream, as far as it is read."""

    type: str = ""
    message: Message | None = None
    index: int = 0
    content_block: Block | None = None
    delta: Delta | None = None
    usage: MessagesUsage | None = None


_MESSAGE = msgspec.json.Decoder(Message)
_EVENT = msgspec.json.Decoder(Event)


def completion_of(body: bytes) -> bytes:
    """A whole message as a chat completion; `UpstreamBroken` where it is none."""
    try:
        message = _MESSAGE.decode(body)
    except UNREADABLE as error:
        raise UpstreamBroken("The upstream's answer is not a message of Anthropic's API.") from error
    choice = {"index": 0, "message": _said(message.content), "logprobs": None, **_ending(message)}
    return msgspec.json.encode(
        {
            "id": message.id,
            "object": "chat.completion",
            "created": int(time()),
            "model": message.model,
            "choices": [choice],
            "usage": chat_usage(message.usage),
        }
    )


def chat_usage(usage: MessagesUsage) -> Words:
    """Usage in OpenAI's counting."""
    output = usage.output_tokens or 0
    prompt: Words = {
        "cached_tokens": usage.cache_read_input_tokens or 0,
        "cache_write_tokens": usage.cache_creation_input_tokens or 0,
    }
    if usage.written_1h:
        prompt["cache_write_long_tokens"] = usage.written_1h
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": output,
        "total_tokens": usage.prompt + output,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {"reasoning_tokens": usage.thought},
    }


def _said(blocks: list[Block]) -> Words:
    texts = [block.text for block in blocks if block.type == "text"]
    said: Words = {"role": "assistant", "content": "".join(texts) if texts else None, "refusal": None}
    if thoughts := [_thought(block) for block in blocks if block.type in ("thinking", "redacted_thinking")]:
        if shown := [block.thinking for block in blocks if block.thinking]:
            said["reasoning_content"] = "\n\n".join(shown)
        said["thinking_blocks"] = thoughts
    if calls := [block for block in blocks if block.type == "tool_use"]:
        said["tool_calls"] = [_call(block) for block in calls]
    return said


def _thought(block: Block) -> Words:
    if block.type == "redacted_thinking":
        return {"type": block.type, "data": block.data}
    return {"type": block.type, "thinking": block.thinking, "signature": block.signature}


def _call(block: Block) -> Words:
    arguments = msgspec.json.encode(block.input or {}).decode()
    return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": arguments}}


def _ending(said: Message | Delta) -> Words:
    ending: Words = {"finish_reason": _FINISHES.get(said.stop_reason or "", "stop")}
    return ending if said.stop_sequence is None else ending | {"stop_reason": said.stop_sequence}


class EventReader:
    """Turns the events of one streamed message into chunks; `ended` after its last."""

    def __init__(self) -> None:
        self._head: Words = {"id": "", "object": "chat.completion.chunk", "created": int(time()), "model": ""}
        self._usage = MessagesUsage()
        self._block = Block(type="")
        self._thinking: list[str] = []
        self._calls = self._thoughts = -1
        self._empty_call = False
        self.ended = False

    def read(self, payload: bytes) -> bytes:
        """The chunks for one event, may be none; `UpstreamBroken` where it can't be read."""
        try:
            found = _EVENT.decode(payload)
        except UNREADABLE as error:
            if _kind(payload) not in (None, *_READERS):
                return b""  # a later version's event
            raise UpstreamBroken("The upstream sent an event that is not one of Anthropic's API.") from error
        reader = _READERS.get(found.type)
        return b"" if reader is None else reader(self, found)

    def _begin(self, found: Event) -> bytes:
        if found.message is not None:
            self._head |= {"id": found.message.id, "model": found.message.model}
            self._usage = found.message.usage
        return self._chunk({"role": "assistant", "content": ""})

    def _block_begins(self, found: Event) -> bytes:
        block = self._block = found.content_block or Block(type="")
        if block.type == "tool_use":
            self._calls += 1
            self._empty_call = not block.input
            arguments = msgspec.json.encode(block.input).decode() if block.input else ""
            function = {"name": block.name, "arguments": arguments}
            return self._call({"id": block.id, "type": "function", "function": function})
        if block.type == "redacted_thinking":
            return self._thought(_thought(block))
        self._thinking = [block.thinking]
        if block.thinking:
            return self._chunk({"reasoning_content": block.thinking})
        return self._chunk({"content": block.text}) if block.text else b""

    def _block_goes_on(self, found: Event) -> bytes:
        delta = found.delta or Delta()
        if delta.text:
            return self._chunk({"content": delta.text})
        if delta.partial_json:
            self._empty_call = False
            return self._call({"function": {"arguments": delta.partial_json}})
        if delta.thinking:
            self._thinking.append(delta.thinking)
            return self._chunk({"reasoning_content": delta.thinking})
        self._block.signature = delta.signature or self._block.signature
        return b""

    def _block_ends(self, _: Event) -> bytes:
        """A call without arguments is given empty ones; a thought is repeated whole with its signature, which has to
        come back with it."""
        block, self._block = self._block, Block(type="")
        if block.type == "tool_use" and self._empty_call:
            return self._call({"function": {"arguments": "{}"}})
        if block.type == "thinking":
            block.thinking = "".join(self._thinking)
            return self._thought(_thought(block))
        return b""

    def _message_ends(self, found: Event) -> bytes:
        if found.usage is not None:
            self._usage = self._usage.updated(found.usage)
        if found.delta is None or found.delta.stop_reason is None:
            return b""
        return self._chunk({}, **_ending(found.delta))

    def _end(self, _: Event) -> bytes:
        self.ended = True
        return event(msgspec.json.encode({**self._head, "choices": [], "usage": chat_usage(self._usage)})) + DONE

    def _call(self, piece: Words) -> bytes:
        return self._chunk({"tool_calls": [{"index": self._calls, **piece}]})

    def _thought(self, block: Words) -> bytes:
        self._thoughts += 1
        return self._chunk({"thinking_blocks": [{"index": self._thoughts, **block}]})

    def _chunk(self, delta: Words, **ending: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": None, **ending}
        return event(msgspec.json.encode({**self._head, "choices": [choice]}))


def _kind(payload: bytes) -> str | None:
    try:
        found = msgspec.json.decode(payload)
    except UNREADABLE:
        return None
    kind = found.get("type") if isinstance(found, dict) else None
    return kind if isinstance(kind, str) else None


_READERS = {
    "message_start": EventReader._begin,
    "content_block_start": EventReader._block_begins,
    "content_block_delta": EventReader._block_goes_on,
    "content_block_stop": EventReader._block_ends,
    "message_delta": EventReader._message_ends,
    "message_stop": EventReader._end,
}
