"""Translating there and back changes nothing that both dialects can say."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.chat_request import parse_chat
from gateway.wire.chat_to_messages import messages_of
from gateway.wire.messages_events import MessagesWriter
from gateway.wire.messages_reader import EventReader, completion_of
from gateway.wire.messages_reply import Asked, message_of
from gateway.wire.messages_request import MessagesDialect
from gateway.wire.sse import payload_of
from tests.unit.gateway.wire.message_shapes import (
    Words,
    accumulated,
    answers,
    chat_requests,
    events_of,
    messages_requests,
)

ASKED = Asked("m", ("END",), thoughts=True)


@given(messages_requests())
def test_messages_to_chat_and_back_is_the_same_request(asked: Words) -> None:
    request = MessagesDialect().parse(json.dumps(asked).encode())

    assert request.native_only is None
    assert messages_of(request, "m", 1) == asked


@given(chat_requests())
def test_chat_to_messages_and_back_is_the_same_request(asked: Words) -> None:
    words = messages_of(parse_chat(json.dumps(asked).encode()), "m", 1)

    back = MessagesDialect().parse(json.dumps(words).encode())

    assert back.native_only is None
    assert _usual({name: json.loads(bytes(raw)) for name, raw in back.fields.items()}) == _usual(asked)


@given(answers())
def test_a_whole_answer_survives_the_way_to_chat_and_back(message: Words) -> None:
    completion = completion_of(json.dumps(message).encode())

    back = json.loads(message_of(completion, ASKED, "req_1"))

    assert back == message


@given(answers(), st.integers(1, 5))
def test_a_streamed_answer_survives_the_way_to_chat_and_back(message: Words, size: int) -> None:
    reader, writer = EventReader(), MessagesWriter(ASKED, "req_1")
    events = events_of(message, size)

    chunks = [reader.read(json.dumps(event).encode()) for event in events]
    written = b"".join([*map(writer.feed, chunks), writer.end()])

    assert reader.ended
    assert accumulated(_events(written)) == accumulated(events) == message


@given(answers(), st.integers(1, 5))
def test_a_stream_in_chat_says_what_the_whole_answer_says(message: Words, size: int) -> None:
    reader = EventReader()
    whole = json.loads(completion_of(json.dumps(message).encode()))

    frames = b"".join(reader.read(json.dumps(event).encode()) for event in events_of(message, size))

    chunks = [json.loads(payload_of(text)) for text in frames.split(b"\n\n")[:-2]]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    said = whole["choices"][0]["message"]
    assert "".join(delta.get("content") or "" for delta in deltas) == (said["content"] or "")
    called = [call["function"] for call in said.get("tool_calls", [])]
    assert _calls(deltas) == [{**one, "arguments": json.loads(one["arguments"])} for one in called]
    assert chunks[-1]["usage"] == whole["usage"]
    assert [choice["finish_reason"] for choice in chunks[-2]["choices"]] == [whole["choices"][0]["finish_reason"]]


def _events(written: bytes) -> list[Words]:
    events = []
    for text in written.decode().split("\n\n")[:-1]:
        name, data = text.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def _calls(deltas: list[Words]) -> list[Words]:
    calls: list[Words] = []
    for piece in (piece for delta in deltas for piece in delta.get("tool_calls", ())):
        if piece["index"] == len(calls):
            calls.append({"name": piece["function"]["name"], "arguments": ""})
        calls[piece["index"]]["arguments"] += piece["function"]["arguments"]
    return [{**one, "arguments": json.loads(one["arguments"])} for one in calls]


def _usual(asked: Words) -> Words:
    """One form for what both APIs call the same: a text and a list of that one part, a default and nothing."""
    usual: dict[str, Any] = {**asked, "messages": [_message(one) for one in asked["messages"]]}
    if usual.get("parallel_tool_calls") is False:
        usual.setdefault("tool_choice", "auto")
    return usual


def _message(message: Words) -> Words:
    content = message.get("content")
    usual = {**message, "content": [{"type": "text", "text": content}] if isinstance(content, str) else content}
    usual.pop("reasoning_content", None)  # repeats what thinking_blocks say
    if "tool_calls" in usual:
        usual["tool_calls"] = [_call(call) for call in usual["tool_calls"]]
    return usual


def _call(call: Words) -> Words:
    function = call["function"]
    return {**call, "function": {**function, "arguments": json.loads(function["arguments"])}}
