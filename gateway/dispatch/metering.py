"""What a reply is worth: finds usage and finish in passing frames, adds cost, mends how streams end.

Works on bytes: a frame is decoded only where a cheap search says that it carries usage.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.errors import UpstreamBroken
from gateway.wire.sse import DONE, event, payload_of
from policies.catalogue import ModelCard

_FINISH = re.compile(rb'"finish_reason"\s*:\s*"([^"\\]{1,40})"')
_CHARS_PER_TOKEN = 4


Count = Annotated[int, Meta(ge=0, le=2**40)]


class _PromptDetails(Struct):
    cached_tokens: Count | None = None


class _OutputDetails(Struct):
    reasoning_tokens: Count | None = None


class _Usage(Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


_EMPTY = Raw(b"[]")
_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_USAGE_DECODER = msgspec.json.Decoder(_Usage)


@dataclass(slots=True)
class Usage:
    """Tokens and cost (nano-dollars) of one call; `estimated` where the upstream did not say."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nanousd: int = 0
    estimated: bool = False


class Meter:
    """Watches the frames of one reply; `wants_usage` says whether the client asked for a stream's usage chunk."""

    __slots__ = ("_card", "_events", "_prompt_tokens", "_wants_usage", "_whole_chars", "done", "finish_reason", "usage")

    def __init__(self, card: ModelCard, prompt_tokens: int, wants_usage: bool) -> None:
        self._card = card
        self._prompt_tokens = prompt_tokens
        self._wants_usage = wants_usage
        self._events = 0
        self._whole_chars = 0
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.done = False

    def whole(self, body: bytes) -> bytes:
        """Meter a whole answer; the same body with `usage.cost` added, everything else byte for byte."""
        self._note_finish(body)
        self._whole_chars = len(body)
        return self._finished(body, "choices")

    def embeddings(self, body: bytes) -> bytes:
        """Meter an embeddings answer likewise; such an answer has no output tokens."""
        return self._finished(body, "data")

    def _finished(self, body: bytes, required: str) -> bytes:
        try:
            fields = _FIELDS.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise UpstreamBroken("The upstream's answer is not valid JSON.") from error
        if required not in fields:
            raise UpstreamBroken(f"The upstream's answer has no '{required}'.")
        self.done = True
        self._take(fields.get("usage"))
        usage = self.settle()
        fields["usage"] = self._with_cost(fields.get("usage"), usage)
        return msgspec.json.encode(fields)

    def stream(self, frame: bytes) -> bytes:
        """Meter one frame of a stream; what the client may see of it (may be empty)."""
        self._events += frame.count(b"data:")
        self._note_finish(frame)
        if b'"usage"' in frame:
            frame = self._metered(frame)
        if frame.endswith(DONE):
            self.done = True
        return frame

    def end_of_stream(self) -> bytes:
        """What is still owed when the upstream's bytes end; `UpstreamBroken` when the answer was cut off."""
        if self.done:
            return b""
        if self.finish_reason is None:
            raise UpstreamBroken("The upstream's stream ended before the answer was finished.")
        self.done = True
        return DONE

    def settle(self) -> Usage:
        """Usage as reported, or estimated from what was seen."""
        if self.usage is None:
            output = self._events or self._whole_chars // _CHARS_PER_TOKEN
            self.usage = Usage(self._prompt_tokens, output, estimated=True)
            self.usage.cost_nanousd = self._card.cost_nanousd(self.usage.input_tokens, self.usage.output_tokens)
        return self.usage

    def _note_finish(self, frame: bytes) -> None:
        if b'"finish_reason"' in frame:
            found = _FINISH.search(frame)
            if found:
                self.finish_reason = found.group(1).decode(errors="replace")

    def _metered(self, frame: bytes) -> bytes:
        return b"".join(self._event(text) for text in frame.split(b"\n\n")[:-1])

    def _event(self, text: bytes) -> bytes:
        """One event; its usage is read, priced or hidden, all else stays byte for byte."""
        untouched = text + b"\n\n"
        if b'"usage"' not in text:
            return untouched
        try:
            fields = _FIELDS.decode(payload_of(text))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return untouched
        raw = fields.get("usage")
        if raw is None:
            return untouched
        if bytes(raw) != b"null" and not self._take(raw):
            return untouched
        if not self._wants_usage:
            if bytes(raw) != b"null" and bytes(fields.get("choices", _EMPTY)).strip() in (b"[]", b"null"):
                return b""
            del fields["usage"]
        elif bytes(raw) == b"null":
            return untouched
        else:
            fields["usage"] = self._with_cost(raw, self.settle())
        return event(msgspec.json.encode(fields))

    def _take(self, raw: Raw | None) -> bool:
        """Read a usage object; anything that is not one is left alone."""
        if raw is None:
            return False
        try:
            found = _USAGE_DECODER.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        if found.prompt_tokens is None and found.completion_tokens is None:
            return False
        cached = found.prompt_tokens_details.cached_tokens if found.prompt_tokens_details else None
        reasoning = found.completion_tokens_details.reasoning_tokens if found.completion_tokens_details else None
        usage = Usage(found.prompt_tokens or 0, found.completion_tokens or 0, cached or 0, reasoning or 0)
        usage.cost_nanousd = self._card.cost_nanousd(
            usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens
        )
        self.usage = usage
        return True

    def _with_cost(self, raw: Raw | None, usage: Usage) -> Raw:
        """The usage object with `cost` spliced in; one of our own, marked as estimated, where there was none."""
        try:
            fields = _FIELDS.decode(raw) if raw is not None else {}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            fields = {}
        if not fields:
            total = usage.input_tokens + usage.output_tokens
            tokens = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens}
            fields = _FIELDS.decode(msgspec.json.encode({**tokens, "total_tokens": total, "estimated": True}))
        fields["cost"] = Raw(msgspec.json.encode(usage.cost_nanousd / 1e9 if self._card.priced else None))
        return Raw(msgspec.json.encode(fields))
