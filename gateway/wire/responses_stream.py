"""Chat answers as responses; chunks as events in OpenAI's order and numbering, one item open at a time."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.errors import GatewayError, UpstreamBroken
from gateway.wire.chat_reply import ChatReply, Choice, Said, ToolCall, read_events
from gateway.wire.chat_request import ChatRequest
from gateway.wire.responses_items import Item
from gateway.wire.responses_reply import (
    Head,
    blocks_of,
    call_item,
    item_status,
    logprobs_of,
    message_item,
    new_id,
    reasoning_item,
    refusal_part,
    text_part,
    whole_response,
)

Event = dict[str, Any]


class ResponsesWriter:
    """See `Writer`; `response` is the whole response once the answer has ended well."""

    def __init__(self, request: ChatRequest) -> None:
        self.response: dict[str, Any] | None = None
        self._head = Head(request)
        self._log = EventLog()
        self._begun = False
        self._output: list[Item] = []
        self._open: Reasoning | Message | Call | None = None
        self._finish: str | None = None

    def whole(self, body: bytes) -> bytes:
        self.response = whole_response(self._head, body)
        return msgspec.json.encode(self.response)

    def feed(self, frame: bytes) -> bytes:
        for reply in read_events(frame):
            if reply is None:
                self._end()
            else:
                self._chunk(reply)
        return self._log.taken()

    def end(self) -> bytes:
        self._end()
        return self._log.taken()

    def failed(self, error: GatewayError, request_id: str) -> bytes:
        """The last events of a stream that broke: the failed response, and an error that SDKs raise."""
        self._begin()
        self._log.add("response.failed", response=self._head.failed(self._output, error))
        self._log.add("error", **error_fields(error, request_id))
        return self._log.taken()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            response = self._head.response("in_progress", [])
            self._log.add("response.created", response=response)
            self._log.add("response.in_progress", response=response)

    def _chunk(self, reply: ChatReply) -> None:
        self._head.note(reply)
        self._begin()
        for choice in reply.choices or ():
            self._said(choice, choice.said)
            self._finish = choice.finish_reason or self._finish

    def _said(self, choice: Choice, said: Said) -> None:
        if said.thought or said.thinking_blocks is not None:
            self._reasoning().think(said.thought, said.thinking_blocks)
        if said.text:
            self._message().say(said.text, logprobs_of(choice))
        if said.refusal:
            self._message().refuse(said.refusal)
        if said.extra_content is not None:
            self._message().extra = said.extra_content
        for call in said.tool_calls or ():
            self._call(call)

    def _reasoning(self) -> Reasoning:
        if isinstance(self._open, Reasoning):
            return self._open
        self._close("completed")
        opened = Reasoning(self._log, len(self._output), self._head.wants_summary)
        self._open = opened
        return opened

    def _message(self) -> Message:
        if isinstance(self._open, Message):
            return self._open
        self._close("completed")
        opened = Message(self._log, len(self._output))
        self._open = opened
        return opened

    def _call(self, piece: ToolCall) -> None:
        if not isinstance(self._open, Call) or not self._open.goes_on_with(piece):
            self._close("completed")
            self._open = Call(self._log, len(self._output), piece)
        self._open.argue(piece)

    def _close(self, status: str) -> None:
        if self._open is not None:
            self._output.append(self._open.close(status))
            self._open = None

    def _end(self) -> None:
        if self.response is not None:
            return
        self._begin()
        self._close(item_status(self._finish))
        self.response = self._head.ended(self._output, self._finish)
        self._log.add(f"response.{self.response['status']}", response=self.response)


class EventLog:
    """Numbers events from `number` on and writes them down until they are taken."""

    def __init__(self, number: int = 0) -> None:
        self._number = number
        self._written: list[bytes] = []

    def add(self, kind: str, **fields: Any) -> None:
        """One event."""
        payload = msgspec.json.encode({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        self._written.append(b"event: " + kind.encode() + b"\ndata: " + payload + b"\n\n")

    def taken(self) -> bytes:
        """What was written since the last time."""
        written, self._written = b"".join(self._written), []
        return written


class Reasoning:
    """An open reasoning item, shown as summary or as the reasoning's own text."""

    def __init__(self, log: EventLog, index: int, summary: bool) -> None:
        self._log, self._index, self._summary = log, index, summary
        self._id = new_id("rs")
        self._texts: list[str] = []
        self._blocks: list[dict[str, Any]] = []
        self._unsigned: list[str] = []
        item = {"id": self._id, "type": "reasoning", "summary": [], "status": "in_progress"}
        log.add("response.output_item.added", output_index=index, item=item)

    def think(self, text: str, blocks: Any) -> None:
        """A piece of reasoning; `blocks` are a list of what its vendor wants back, signed after its text has come."""
        if text:
            self._unsigned.append(text)
            self._show(text)
        for block in blocks_of(blocks):
            if block.get("type") == "thinking":
                block.setdefault("thinking", "".join(self._unsigned))
                self._unsigned = []
            self._blocks.append(block)

    def _show(self, text: str) -> None:
        place: Event = {"item_id": self._id, "output_index": self._index}
        if not self._texts:
            self._part("added", "", place)
        self._texts.append(text)
        if self._summary:
            self._log.add("response.reasoning_summary_text.delta", **place, summary_index=0, delta=text)
        else:
            self._log.add("response.reasoning_text.delta", **place, content_index=0, delta=text)

    def close(self, status: str) -> Item:
        """The finished item."""
        text = "".join(self._texts)
        place: Event = {"item_id": self._id, "output_index": self._index}
        if text and self._summary:
            self._log.add("response.reasoning_summary_text.done", **place, summary_index=0, text=text)
        elif text:
            self._log.add("response.reasoning_text.done", **place, content_index=0, text=text)
        if text:
            self._part("done", text, place)
        item = reasoning_item(text, self._blocks, self._summary, status) | {"id": self._id}
        self._log.add("response.output_item.done", output_index=self._index, item=item)
        return item

    def _part(self, what: str, text: str, place: Event) -> None:
        if self._summary:
            part = {"type": "summary_text", "text": text}
            self._log.add(f"response.reasoning_summary_part.{what}", **place, summary_index=0, part=part)
        else:
            part = {"type": "reasoning_text", "text": text}
            self._log.add(f"response.content_part.{what}", **place, content_index=0, part=part)


class Message:
    """An open message; its parts follow each other."""

    def __init__(self, log: EventLog, index: int) -> None:
        self._log, self._index = log, index
        self._id = new_id("msg")
        self._parts: list[dict[str, Any]] = []
        self._kind = ""
        self._texts: list[str] = []
        self._logprobs: list[Any] = []
        self.extra: Any = None
        item = {"id": self._id, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        log.add("response.output_item.added", output_index=index, item=item)

    def say(self, text: str, logprobs: list[Any]) -> None:
        """A piece of text."""
        self._begin("output_text")
        self._texts.append(text)
        self._logprobs.extend(logprobs)
        self._log.add("response.output_text.delta", **self._place(), delta=text, logprobs=logprobs)

    def refuse(self, text: str) -> None:
        """A piece of a refusal."""
        self._begin("refusal")
        self._texts.append(text)
        self._log.add("response.refusal.delta", **self._place(), delta=text)

    def close(self, status: str) -> Item:
        """The finished item."""
        self._end()
        item = message_item(self._parts, Said(extra_content=self.extra), status) | {"id": self._id}
        self._log.add("response.output_item.done", output_index=self._index, item=item)
        return item

    def _place(self) -> Event:
        return {"item_id": self._id, "output_index": self._index, "content_index": len(self._parts)}

    def _begin(self, kind: str) -> None:
        if self._kind == kind:
            return
        self._end()
        self._kind = kind
        part = text_part("") if kind == "output_text" else refusal_part("")
        self._log.add("response.content_part.added", **self._place(), part=part)

    def _end(self) -> None:
        if not self._kind:
            return
        text = "".join(self._texts)
        if self._kind == "output_text":
            part = text_part(text, self._logprobs)
            self._log.add("response.output_text.done", **self._place(), text=text, logprobs=self._logprobs)
        else:
            part = refusal_part(text)
            self._log.add("response.refusal.done", **self._place(), refusal=text)
        self._log.add("response.content_part.done", **self._place(), part=part)
        self._parts.append(part)
        self._kind, self._texts, self._logprobs = "", [], []


class Call:
    """An open function call."""

    def __init__(self, log: EventLog, index: int, first: ToolCall) -> None:
        self._log, self._index = log, index
        self._place, self._call_id = first.index, first.id
        self._item = call_item(first, "in_progress") | {"arguments": ""}
        self._texts: list[str] = []
        log.add("response.output_item.added", output_index=index, item=self._item)

    def goes_on_with(self, piece: ToolCall) -> bool:
        """Whether a piece belongs to this call. Some upstreams number all calls alike and tell them by their ids."""
        if piece.index is not None and self._place is not None and piece.index < self._place:
            raise UpstreamBroken("The upstream went back to a tool call that had ended.")
        return piece.index == self._place and piece.id in (None, "", self._call_id)

    def argue(self, piece: ToolCall) -> None:
        """A piece of the arguments."""
        if piece.extra_content is not None:
            self._item["extra_content"] = piece.extra_content
        text = piece.function.arguments if piece.function else None
        if text:
            self._texts.append(text)
            place = {"item_id": self._item["id"], "output_index": self._index}
            self._log.add("response.function_call_arguments.delta", **place, delta=text)

    def close(self, status: str) -> Item:
        """The finished item."""
        self._item |= {"arguments": "".join(self._texts), "status": status}
        self._log.add(
            "response.function_call_arguments.done",
            item_id=self._item["id"],
            output_index=self._index,
            name=self._item["name"],
            arguments=self._item["arguments"],
        )
        self._log.add("response.output_item.done", output_index=self._index, item=self._item)
        return self._item


def error_fields(error: GatewayError, request_id: str) -> Event:
    """What an `error` event says: OpenAI's own fields, and beside them the object that makes its SDKs raise."""
    detail = error.detail()
    said = {"code": detail["code"], "message": detail["message"], "param": detail["param"]}
    return said | {"request_id": request_id, "error": detail}
