"""What a meter reads of OpenAI's responses: usage, the text of answers, and how far a stream has come."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.dispatch.meters.base import Usage
from gateway.dispatch.meters.chat_wire import UNREADABLE
from gateway.wire.responses_stream import EventLog

Count = Annotated[int, Meta(ge=0, le=2**40)]
_PARTS = ("response.content_part", "response.reasoning_summary_part")


class _Writes(Struct):
    ttl_12h_tokens: Count | None = None


class _InputDetails(Struct):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    cache_write_tokens_details: _Writes | None = None
    audio_tokens: Count | None = None


class _OutputDetails(Struct):
    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None


class _Usage(Struct):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Event(Struct):
    type: str = ""
    sequence_number: int = 0
    delta: Any = None
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    item: dict[str, Any] | None = None
    part: dict[str, Any] | None = None
    response: dict[str, Any] | None = None


class _Part(Struct):
    text: str | None = None
    refusal: str | None = None


class _Item(Struct):
    content: list[_Part] | None = None
    summary: list[_Part] | None = None
    name: str | None = None
    arguments: str | None = None


class _Response(Struct):
    output: list[_Item] | None = None


_USAGE = msgspec.json.Decoder(_Usage)
_EVENT = msgspec.json.Decoder(_Event)
_RESPONSE = msgspec.json.Decoder(_Response)
_NO_INPUT, _NO_OUTPUT, _NO_WRITES = _InputDetails(), _OutputDetails(), _Writes()


def read_response_usage(raw: Raw | None) -> Usage | None:
    """A usage object in our counting; None for what is none, or only zeros."""
    try:
        found = _USAGE.decode(raw or b"null")
    except UNREADABLE:
        return None
    if not (found.input_tokens or found.output_tokens):
        return None
    given, said = found.input_tokens_details or _NO_INPUT, found.output_tokens_details or _NO_OUTPUT
    return Usage(
        input_tokens=found.input_tokens or 0,
        output_tokens=found.output_tokens or 0,
        cached_tokens=given.cached_tokens or 0,
        cache_write_tokens=given.cache_write_tokens or 0,
        cache_write_long_tokens=(given.cache_write_tokens_details or _NO_WRITES).ttl_12h_tokens or 0,
        reasoning_tokens=said.reasoning_tokens or 0,
        audio_input_tokens=given.audio_tokens or 0,
        audio_output_tokens=said.audio_tokens or 0,
    )


def response_text(body: bytes) -> str:
    """Everything a whole response says that is billed as output; "" where it can't be read."""
    try:
        items = _RESPONSE.decode(body).output or []
    except UNREADABLE:
        return ""
    said = [text for item in items for text in (item.name, item.arguments)]
    for item in items:
        said += [part.text or part.refusal for part in (*(item.content or ()), *(item.summary or ()))]
    return "\n".join(filter(None, said))


class Progress:
    """Follows a stream, so that it can be ended properly at any event."""

    __slots__ = ("_head", "_index", "_item", "_number", "_output", "_part", "_part_kind", "_part_place", "_texts")

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._number = -1
        self._output: list[dict[str, Any]] = []
        self._item: dict[str, Any] | None = None
        self._index = 0
        self._part: dict[str, Any] | None = None
        self._part_kind = ""
        self._part_place: dict[str, int] = {}
        self._texts: list[str] = []

    def text(self, payload: bytes) -> str:
        """The output text of one event, which is noted by the way; "" where it says nothing."""
        try:
            event = _EVENT.decode(payload)
        except UNREADABLE:
            return ""
        self._number = event.sequence_number
        if event.type.endswith(".delta"):
            said = event.delta if isinstance(event.delta, str) else ""
            self._texts.append(said)
            return said
        if event.type in ("response.created", "response.in_progress"):
            self._head = event.response or {}
        elif event.type == "response.output_item.added":
            self._item, self._index, self._part, self._texts = event.item, event.output_index, None, []
        elif event.type == "response.output_item.done" and event.item is not None:
            self._output.append(event.item)
            self._item = None
        elif event.type.startswith(_PARTS):
            self._note_part(event)
        return ""

    def _note_part(self, event: _Event) -> None:
        kind, _, what = event.type.rpartition(".")
        place = "summary_index" if kind.endswith("summary_part") else "content_index"
        if what == "added":
            self._part, self._part_kind, self._texts = event.part, kind, []
            self._part_place = {place: getattr(event, place)}
        elif what == "done" and self._item is not None and event.part is not None:
            self._parts().append(event.part)
            self._part, self._texts = None, []

    def _parts(self) -> list[Any]:
        """Where the item that is open keeps its parts."""
        item = self._item or {}
        name = "summary" if self._part_kind.endswith("summary_part") else "content"
        if not isinstance(item.get(name), list):
            item[name] = []
        parts: list[Any] = item[name]
        return parts

    def ended(self, usage: dict[str, Any], note: dict[str, Any]) -> bytes:
        """The events that end the stream here as an answer that met its length."""
        log = EventLog(self._number + 1)
        if self._item is not None:
            self._close_item(log, self._item)
        response = self._head | {
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "output": self._output,
            "usage": usage,
            "fingerpost": note,
        }
        log.add("response.incomplete", response=response)
        return log.taken()

    def _close_item(self, log: EventLog, item: dict[str, Any]) -> None:
        place = {"item_id": item.get("id"), "output_index": self._index}
        text = "".join(self._texts)
        if self._part is not None:
            self._close_part(log, place | self._part_place, text)
        elif item.get("type") == "function_call":
            item["arguments"] = text
            log.add("response.function_call_arguments.done", **place, name=item.get("name"), arguments=text)
        item["status"] = "incomplete"
        log.add("response.output_item.done", output_index=self._index, item=item)
        self._output.append(item)

    def _close_part(self, log: EventLog, place: dict[str, Any], text: str) -> None:
        part = self._part or {}
        name, done = ("refusal", "refusal") if part.get("type") == "refusal" else ("text", part.get("type"))
        part[name] = text
        kind = {"summary_text": "reasoning_summary_text"}.get(str(done), str(done))
        extra: dict[str, Any] = {"logprobs": []} if kind == "output_text" else {}
        log.add(f"response.{kind}.done", **place, **{name: text}, **extra)
        log.add(f"{self._part_kind}.done", **place, part=part)
        self._parts().append(part)
