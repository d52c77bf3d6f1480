"""The meter of Anthropic's messages as their own endpoints send them: usage comes with the first event and the last.

Every event but those that tell usage passes byte for byte; the last is given its cost.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from gateway.dispatch.meters.base import Usage, price
from gateway.dispatch.meters.chat_wire import UNREADABLE, event_fields, fields_of, usage_fields
from gateway.dispatch.meters.spoken import Spoken
from gateway.errors import UpstreamBroken
from gateway.wire.messages_events import named_event
from gateway.wire.messages_reader import Event, Message, MessagesUsage
from gateway.wire.sse import payload_of
from policies.catalogue import ModelCard

_EVENT = msgspec.json.Decoder(Event)
_MESSAGE = msgspec.json.Decoder(Message)
_USAGE = msgspec.json.Decoder(MessagesUsage)
# Events that are more than another piece of a block.
_TELLING = (b'"message_', b'"content_block_start"', b'"content_block_stop"')

# A prompt of pictures or tools may be weighed quite wrongly; the answer is text.
MOST_SCALE = 2.0


class MessagesMeter:
    """See `Meter`. Clients always see usage: this dialect has no way to ask for it."""

    __slots__ = (
        "_at",
        "_card",
        "_open_block",
        "_prompt_tokens",
        "_spoken",
        "_told",
        "_told_all",
        "done",
        "finish_reason",
    )

    def __init__(self, card: ModelCard, prompt_tokens: int, wants_usage: bool, at: float | None = None) -> None:
        self._card = card
        self._prompt_tokens = prompt_tokens
        self._at = at
        self._spoken = Spoken(_spoken_text)
        self._told: MessagesUsage | None = None
        self._told_all = False  # whether the output's count is final
        self._open_block: int | None = None
        self.finish_reason: str | None = None
        self.done = False

    @property
    def running_cost_nanousd(self) -> int:
        if self._told_all or self.done:
            return self.settle().cost_nanousd
        usage = self._known()
        usage.output_tokens = max(usage.output_tokens, self._spoken.upper())
        return price(usage, self._card, self._at).cost_nanousd

    def whole(self, body: bytes) -> bytes:
        fields = fields_of(body, "content")
        self.done = True
        self.finish_reason = _text_of(fields.get("stop_reason"))
        told = _usage_of(fields.get("usage"))
        if told.prompt or told.output_tokens:
            self._told, self._told_all = told, True
        else:
            self._spoken.hear(b"data: " + body + b"\n\n")
        return msgspec.json.encode(fields | {"usage": self._usage_shown(fields.get("usage"))})

    def stream(self, frame: bytes) -> bytes:
        self._spoken.hear(frame)
        if not any(sign in frame for sign in _TELLING):
            return frame
        return b"".join(map(self._event, frame.split(b"\n\n")[:-1]))

    def weigh(self, event: bytes) -> int:
        return self._spoken.weigh(event, _spoken_text)

    def end_of_stream(self) -> bytes:
        if not self.done:
            raise UpstreamBroken("The upstream's stream ended before the message was finished.")
        return b""

    def cut(self) -> bytes:
        if self.done:
            return b""
        self.done = True
        ended = b""
        if self._open_block is not None:
            ended = named_event({"type": "content_block_stop", "index": self._open_block})
        if self.finish_reason is None:
            self.finish_reason = "max_tokens"
            delta = {"stop_reason": "max_tokens", "stop_sequence": None}
            note = {"usage": self._usage_shown(None), "fingerpost": {"budget_exhausted": True}}
            ended += named_event({"type": "message_delta", "delta": delta, **note})
        return ended + named_event({"type": "message_stop"})

    def settle(self) -> Usage:
        usage = self._known()
        if not self._told_all:
            usage.output_tokens = max(usage.output_tokens, self._spoken.estimate())
            usage.estimated = True
        return price(usage, self._card, self._at)

    def _known(self) -> Usage:
        """What was told so far, in our counting."""
        told = self._told
        if told is None:
            return Usage(self._prompt_tokens)
        return Usage(
            input_tokens=told.prompt,
            output_tokens=told.output_tokens or 0,
            cached_tokens=told.cache_read_input_tokens or 0,
            cache_write_tokens=told.cache_creation_input_tokens or 0,
            cache_write_long_tokens=told.written_1h,
            reasoning_tokens=told.thought,
        )

    def _event(self, text: bytes) -> bytes:
        untouched = text + b"\n\n"
        try:
            found = _EVENT.decode(payload_of(text))
        except UNREADABLE:
            return untouched
        if found.type == "message_start" and found.message is not None:
            self._told = found.message.usage
            # The prompt tells how this model's tokenizer counts beside our own weighing.
            self._spoken.scale = min(max(self._told.prompt / max(self._prompt_tokens, 1), 1.0), MOST_SCALE)
        elif found.type == "content_block_start":
            self._open_block = found.index
        elif found.type == "content_block_stop":
            self._open_block = None
        elif found.type == "message_stop":
            self.done = True
        elif found.type == "message_delta":
            return self._last_usage(text, found)
        return untouched

    def _last_usage(self, text: bytes, found: Event) -> bytes:
        """The event that ends a message, with its cost; its other fields keep their bytes."""
        if found.delta is not None and found.delta.stop_reason is not None:
            self.finish_reason = found.delta.stop_reason
        if found.usage is not None:
            self._told = (self._told or MessagesUsage()).updated(found.usage)
            self._told_all = found.usage.output_tokens is not None
        fields = event_fields(text)
        shown = fields | {"usage": self._usage_shown(fields.get("usage"))}
        return b"event: message_delta\ndata: " + msgspec.json.encode(shown) + b"\n\n"

    def _usage_shown(self, raw: Raw | None) -> dict[str, Any]:
        usage = self.settle()
        counted = {
            "input_tokens": usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens,
            "output_tokens": usage.output_tokens,
            "cache_creation_input_tokens": usage.cache_write_tokens,
            "cache_read_input_tokens": usage.cached_tokens,
        }
        return usage_fields(raw, usage, self._card, counted)


def _usage_of(raw: Raw | None) -> MessagesUsage:
    """A usage object, empty where there is none that can be read."""
    try:
        return _USAGE.decode(raw) if raw is not None else MessagesUsage()
    except UNREADABLE:
        return MessagesUsage()


def _text_of(raw: Raw | None) -> str | None:
    found = msgspec.json.decode(raw) if raw is not None else None
    return found if isinstance(found, str) else None


def _spoken_text(payload: bytes) -> str:
    """What one event, or a whole message, says that is billed as output."""
    try:
        found = _EVENT.decode(payload)
        blocks = _MESSAGE.decode(payload).content if found.type == "message" else []
    except UNREADABLE:
        return ""
    if found.content_block is not None:
        blocks = [found.content_block]
    said = [part for block in blocks for part in (block.text, block.thinking, block.name)]
    said += [msgspec.json.encode(block.input).decode() for block in blocks if block.input]
    if found.delta is not None:
        said += [found.delta.text, found.delta.thinking, found.delta.partial_json]
    return "".join(said)


METER = MessagesMeter
