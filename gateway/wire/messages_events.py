"""Chunks of the chat dialect as Anthropic's streaming events, in their exact order: one block is open at a time.

message_start · for each block content_block_start, its deltas, content_block_stop · message_delta · message_stop.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.wire.chat_reply import ChatReply, Choice, Said, read_events
from gateway.wire.messages_calls import CallLine, OpenCall
from gateway.wire.messages_reply import (
    Asked,
    ending,
    message_of,
    note_of,
    opening,
    thoughts_of,
    usage_of,
)

Words = dict[str, Any]
PING = b'event: ping\ndata: {"type": "ping"}\n\n'


def named_event(words: Words) -> bytes:
    """One event, named by its type as Anthropic's SDKs expect."""
    return b"event: %b\ndata: %b\n\n" % (words["type"].encode(), msgspec.json.encode(words))


class MessagesWriter:
    """See `Writer`; the writer of one answer. `prompt_tokens` is what `message_start` says of the prompt until the
    upstream tells."""

    def __init__(self, asked: Asked, request_id: str, prompt_tokens: int = 0) -> None:
        self._asked = asked
        self._request_id = request_id
        self._prompt_tokens = prompt_tokens
        self._out: list[bytes] = []
        self._begun = self._ended = False
        self._kind = ""
        self._index = -1
        self._line = CallLine()
        self._held: list[str] = []
        self._choice = Choice()
        self._refused = False
        self._last = ChatReply()
        self._usage: Words | None = None
        self._note: Words = {}

    def whole(self, body: bytes) -> bytes:
        return message_of(body, self._asked, self._request_id)

    def feed(self, frame: bytes) -> bytes:
        for reply in read_events(frame):
            if reply is None:
                self._end()
            else:
                self._chunk(reply)
        if not self._out and self._begun and not self._ended and frame.startswith(b":"):
            return PING  # a comment, which keeps the connection alive
        return self._taken()

    def end(self) -> bytes:
        if self._begun:
            self._end()
        return self._taken()

    def _taken(self) -> bytes:
        out, self._out = b"".join(self._out), []
        return out

    def _say(self, kind: str, **words: Any) -> None:
        self._out.append(named_event({"type": kind, **words}))

    def _chunk(self, reply: ChatReply) -> None:
        self._last = reply
        if not self._begun:
            self._begin(reply)
        self._usage = reply.usage or self._usage
        self._note |= note_of(reply)
        for choice in reply.choices or ():
            if not choice.index:
                self._take(choice)

    def _begin(self, reply: ChatReply) -> None:
        self._begun = True
        usage = usage_of(reply.usage or {"prompt_tokens": self._prompt_tokens})
        self._say("message_start", message=opening(reply, self._asked, self._request_id) | {"usage": usage})

    def _take(self, choice: Choice) -> None:
        said = choice.said
        if self._asked.thoughts:
            self._think(said)
        self._refused = self._refused or bool(said.refusal)
        if text := said.text or said.refusal:
            self._text(text)
        for piece in said.tool_calls or ():
            call = self._line.take(piece)
            if call is not None and call.name:
                self._write(call)
        if choice.finish_reason:
            self._choice = choice

    def _text(self, text: str) -> None:
        live = self._line.live
        if self._kind == "tool" and live is not None and not live.is_complete:
            self._held.append(text)  # said in the middle of a call, whose block must not be broken
            return
        self._open("text", {"type": "text", "text": ""})
        self._delta("text_delta", text=text)

    def _think(self, said: Said) -> None:
        if said.thought:
            self._open("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            self._delta("thinking_delta", thinking=said.thought)
        for block in thoughts_of(said):
            if block.get("type") == "redacted_thinking":
                self._open("redacted", {"type": "redacted_thinking", "data": block.get("data", "")})
                self._close()
            elif block.get("signature"):
                self._open("thinking", {"type": "thinking", "thinking": "", "signature": ""})
                self._delta("signature_delta", signature=block["signature"])
                self._close()

    def _write(self, call: OpenCall) -> None:
        if not call.begun:
            call.begun = True
            self._close()
            self._open("tool", {"type": "tool_use", "id": call.id, "name": call.name, "input": {}})
        if self._kind == "tool" and (words := call.unsent()):
            self._delta("input_json_delta", partial_json=words)

    def _open(self, kind: str, block: Words) -> None:
        if self._kind == kind:
            return
        self._close()
        self._kind = kind
        self._index += 1
        self._say("content_block_start", index=self._index, content_block=block)

    def _delta(self, kind: str, **words: str) -> None:
        self._say("content_block_delta", index=self._index, delta={"type": kind, **words})

    def _close(self) -> None:
        if self._kind:
            self._kind = ""
            self._say("content_block_stop", index=self._index)

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        if not self._begun:
            self._begin(self._last)
        for call in self._line.waiting():
            self._write(call)
        if self._held:
            self._close()
            self._text("".join(self._held))
        self._close()
        end = ending(self._choice, self._asked, bool(self._line.calls))
        if self._refused and end["stop_reason"] == "end_turn":
            end["stop_reason"] = "refusal"
        self._say("message_delta", delta=end, usage=usage_of(self._usage), **self._note)
        self._say("message_stop")
