"""The meter of OpenAI's responses as their own endpoints send them: usage comes with the event that ends a stream."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw

from gateway.dispatch.meters.base import Usage, price
from gateway.dispatch.meters.chat_wire import UNREADABLE, event_fields, fields_of, usage_fields
from gateway.dispatch.meters.responses_wire import Progress, read_response_usage, response_text
from gateway.dispatch.meters.spoken import Spoken
from gateway.errors import UpstreamBroken
from policies.catalogue import ModelCard
from routers.features import estimate_tokens

_MAY_END = re.compile(rb"response\.(?:completed|incomplete|failed)")
_ENDS = ("response.completed", "response.incomplete", "response.failed")
_FIELDS = msgspec.json.Decoder(dict[str, Raw])


class ResponsesMeter:
    """See `Meter`. Clients always see usage: this dialect has no way to ask for it."""

    __slots__ = (
        "_at",
        "_card",
        "_progress",
        "_prompt_tokens",
        "_reported",
        "_spoken",
        "_whole_tokens",
        "done",
        "finish_reason",
    )

    def __init__(self, card: ModelCard, prompt_tokens: int, wants_usage: bool, at: float | None = None) -> None:
        self._card = card
        self._prompt_tokens = prompt_tokens
        self._at = at
        self._progress = Progress()
        self._spoken = Spoken(self._progress.text)
        self._reported: Usage | None = None
        self._whole_tokens: int | None = None
        self.finish_reason: str | None = None
        self.done = False

    @property
    def running_cost_nanousd(self) -> int:
        if self.done:
            return self.settle().cost_nanousd
        return self._card.cost_nanousd(self._prompt_tokens, self._spoken.upper(), at=self._at)

    def whole(self, body: bytes) -> bytes:
        fields = fields_of(body, "output")
        self.done = True
        if read_response_usage(fields.get("usage")) is None:
            self._whole_tokens = estimate_tokens(response_text(body))
        return msgspec.json.encode(self._noted(fields))

    def stream(self, frame: bytes) -> bytes:
        self._spoken.hear(frame)
        if not _MAY_END.search(frame):
            return frame
        return b"".join(map(self._event, frame.split(b"\n\n")[:-1]))

    def weigh(self, event: bytes) -> int:
        return self._spoken.weigh(event, Progress().text)

    def end_of_stream(self) -> bytes:
        if not self.done:
            raise UpstreamBroken("The upstream's stream ended before the response was finished.")
        return b""

    def cut(self) -> bytes:
        if self.done:
            return b""
        self._spoken.upper(exact=True)  # reads how far the stream has come
        self.done = True
        self.finish_reason = "max_output_tokens"
        return self._progress.ended(self._usage_shown(None), {"budget_exhausted": True})

    def settle(self) -> Usage:
        if self._reported is not None:
            return self._reported
        said = self._spoken.estimate() if self._whole_tokens is None else self._whole_tokens
        return price(Usage(self._prompt_tokens, said, estimated=True), self._card, self._at)

    def _event(self, text: bytes) -> bytes:
        """One event; the one that ends the response is given its cost, all others stay byte for byte."""
        untouched = text + b"\n\n"
        if not _MAY_END.search(text):
            return untouched
        fields = event_fields(text)
        kind = _text_of(fields.get("type"))
        if kind not in _ENDS or "response" not in fields:
            return untouched
        try:
            response = _FIELDS.decode(fields["response"])
        except UNREADABLE:
            return untouched
        self.done = True
        fields["response"] = Raw(msgspec.json.encode(self._noted(response)))
        return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(fields) + b"\n\n"

    def _noted(self, response: dict[str, Raw]) -> dict[str, Any]:
        """Take a finished response's usage and end; the same response with its cost."""
        usage = read_response_usage(response.get("usage"))
        if usage is not None:
            self._reported = price(usage, self._card, self._at)
        details = _cause_of(response.get("incomplete_details"))
        self.finish_reason = details or _text_of(response.get("status")) or None
        return response | {"usage": self._usage_shown(response.get("usage"))}

    def _usage_shown(self, raw: Raw | None) -> dict[str, Any]:
        usage = self.settle()
        counted = {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.input_tokens + usage.output_tokens,
        }
        return usage_fields(raw, usage, self._card, counted)


def _cause_of(raw: Raw | None) -> str | None:
    """Why a response is incomplete."""
    try:
        return _text_of(_FIELDS.decode(raw or b"{}").get("reason")) or None
    except UNREADABLE:
        return None


def _text_of(raw: Raw | None) -> str:
    try:
        found = msgspec.json.decode(raw or b'""')
    except UNREADABLE:
        return ""
    return found if isinstance(found, str) else ""


METER = ResponsesMeter
