"""The meter of OpenAI's chat dialect: finds usage and finish in passing frames, adds cost, mends how streams end.

Works on bytes: a frame is decoded only where a cheap search says that it carries usage.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import msgspec
from msgspec import Raw

from gateway.dispatch.meters.base import Usage, price
from gateway.dispatch.meters.chat_wire import ChoiceReader, event_fields, fields_of, head_of, read_usage, usage_fields
from gateway.dispatch.meters.spoken import Spoken
from gateway.errors import UpstreamBroken
from gateway.wire.sse import DONE, event
from policies.catalogue import ModelCard

_FINISH = re.compile(rb'"finish_reason"\s*:\s*"([^"\\]{1,40})"')
# A null usage as the event's last field, or before plain strings: the brace that ends the event is the object's own.
_LAST_NULL = re.compile(rb',"usage":null((?:,"[^"\\]*+":"[^"\\]*+")*+\}\n\n)')
_LONGER_THAN_AN_END = 32
_NO_CHOICES = (b"[]", b"null")


class ChatMeter:
    """See `Meter`."""

    __slots__ = (
        "_at",
        "_card",
        "_choices",
        "_cut",
        "_last",
        "_prompt_tokens",
        "_reported",
        "_shown",
        "_spoken",
        "_stale",
        "_wants_usage",
        "done",
        "finish_reason",
    )

    def __init__(self, card: ModelCard, prompt_tokens: int, wants_usage: bool, at: float | None = None) -> None:
        self._card = card
        self._prompt_tokens = prompt_tokens
        self._wants_usage = wants_usage
        self._at = at
        self._choices = ChoiceReader()
        self._spoken = Spoken(self._choices.text)
        self._last = b""  # a frame to take a chunk's usual fields from
        self._reported: Usage | None = None
        self._stale = False  # whether more was said since usage was reported
        self._shown = False  # whether the client has seen a usage object
        self._cut = False
        self.finish_reason: str | None = None
        self.done = False

    @property
    def running_cost_nanousd(self) -> int:
        if self.done:
            return self.settle().cost_nanousd
        seen = self._spoken.upper()
        if self._reported is None:
            return self._card.cost_nanousd(self._prompt_tokens, seen, at=self._at)
        seen = max(seen, self._reported.output_tokens)
        return price(replace(self._reported, output_tokens=seen), self._card, self._at).cost_nanousd

    def whole(self, body: bytes) -> bytes:
        fields = fields_of(body, "choices")
        if found := _FINISH.search(body):
            self.finish_reason = found.group(1).decode(errors="replace")
        self.done = True
        if not self._take(fields.get("usage")):
            self._spoken.hear(event(body))
        fields["usage"] = self._usage_shown(fields.get("usage"))
        return msgspec.json.encode(fields)

    def stream(self, frame: bytes) -> bytes:
        self._spoken.hear(frame)
        if found := _FINISH.search(frame):
            self.finish_reason = found.group(1).decode(errors="replace")
        if len(frame) > _LONGER_THAN_AN_END:
            self._last = frame
        self._stale = True
        if b'"usage"' in frame:
            frame = self._with_usage(frame)
        if frame.endswith(DONE):
            self.done = True
            return frame.removesuffix(DONE) + self._usage_owed() + DONE
        return frame

    def weigh(self, event: bytes) -> int:
        return self._spoken.weigh(event, type(self._choices)().text)

    def end_of_stream(self) -> bytes:
        if self.done:
            return b""
        if self.finish_reason is None:
            raise UpstreamBroken("The upstream's stream ended before the answer was finished.")
        self.done = True
        return self._usage_owed() + DONE

    def cut(self) -> bytes:
        if self.done:
            return b""
        self._spoken.upper(exact=True)  # reads which choices are open
        ended = b""
        if self._choices.open or self.finish_reason is None:
            choices = [self._ended_choice(index) for index in sorted(self._choices.open) or [0]]
            ended = self._chunk({"choices": choices, "fingerpost": {"budget_exhausted": True}})
            self.finish_reason = "length"
        self._cut = self.done = True
        self._shown = False  # what was shown on the way is not the last word
        return ended + self._usage_owed() + DONE

    def settle(self) -> Usage:
        known = self._reported
        broken_off = self._cut or not (self.done or self.finish_reason)
        if known is not None and not (self._stale and broken_off):
            return known
        said = self._spoken.estimate()
        if known is None:
            return price(Usage(self._prompt_tokens, said, estimated=True), self._card, self._at)
        # The upstream told its count as it went along, and was broken off in between.
        more = replace(known, output_tokens=max(known.output_tokens, said), estimated=True)
        return price(more, self._card, self._at)

    @staticmethod
    def _ended_choice(index: int) -> dict[str, Any]:
        return {"index": index, "delta": {}, "finish_reason": "length"}

    def _chunk(self, fields: dict[str, Any]) -> bytes:
        return event(msgspec.json.encode(head_of(self._last) | fields))

    def _usage_owed(self) -> bytes:
        """The usage chunk of a client that asked and has seen none."""
        if not self._wants_usage or self._shown:
            return b""
        self._shown = True
        return self._chunk({"choices": [], "usage": self._usage_shown(None)})

    def _with_usage(self, frame: bytes) -> bytes:
        """A frame that may carry usage; where all it says is `null`, as in most chunks, nothing is decoded."""
        if frame.count(b'"usage"') == frame.count(b'"usage":null'):
            if self._wants_usage:
                return frame
            frame = _LAST_NULL.sub(rb"\1", frame)
            if b'"usage"' not in frame:
                return frame
        return b"".join(map(self._event, frame.split(b"\n\n")[:-1]))

    def _event(self, text: bytes) -> bytes:
        """One event; its usage is read, priced or hidden, all else stays byte for byte."""
        untouched = text + b"\n\n"
        fields = event_fields(text) if b'"usage"' in text else {}
        raw = fields.get("usage")
        if raw is None:
            return untouched
        none = bytes(raw) == b"null"
        if (none and self._wants_usage) or (not none and not self._take(raw)):
            return untouched
        if self._wants_usage:
            fields["usage"] = self._usage_shown(raw)
            self._shown = True
        elif not none and bytes(fields.get("choices", b"null")).strip() in _NO_CHOICES:
            return b""
        else:
            del fields["usage"]
        return event(msgspec.json.encode(fields))

    def _take(self, raw: Raw | None) -> bool:
        """Read a usage object, the last one counts; anything that is not one is left alone."""
        usage = read_usage(raw)
        if usage is None:
            return False
        self._reported = price(usage, self._card, self._at)
        self._stale = False
        return True

    def _usage_shown(self, raw: Raw | None) -> Raw:
        return usage_shown(raw, self.settle(), self._card)


def usage_shown(raw: Raw | None, usage: Usage, card: ModelCard) -> Raw:
    """What clients see as usage; see `usage_fields`."""
    counted = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    return Raw(msgspec.json.encode(usage_fields(raw, usage, card, counted)))


METER = ChatMeter
