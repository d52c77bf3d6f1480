"""A whole answer with other usage, and as a stream that its SDKs read alike."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.errors import UpstreamBroken
from gateway.wire.chat_reply import read_events
from gateway.wire.chat_resaid import as_stream, frame_with_usage, with_usage

BODY: dict[str, Any] = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hi", "refusal": None}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2},
}


def encoded(**changes: Any) -> bytes:
    return msgspec.json.encode({**BODY, **changes})


def test_the_usage_is_replaced_and_all_else_stays() -> None:
    changed = msgspec.json.decode(with_usage(encoded(odd=1), {"prompt_tokens": 9}))

    assert changed == {**BODY, "odd": 1, "usage": {"prompt_tokens": 9}}


def test_log_probabilities_that_nobody_asked_for_are_taken_off() -> None:
    choice = {**BODY["choices"][0], "logprobs": {"content": []}}

    changed = msgspec.json.decode(with_usage(encoded(choices=[choice]), {}, hide_logprobs=True))

    assert changed["choices"][0]["logprobs"] is None


def test_a_stream_says_the_same_as_the_whole_answer() -> None:
    events = list(read_events(as_stream(encoded(), wants_usage=True)))

    assert events[-1] is None
    first, end, usage = events[:3]
    assert first is not None and first.choices is not None and first.choices[0].said.text == "hi"
    assert end is not None and end.choices is not None and end.choices[0].finish_reason == "stop"
    assert usage is not None and usage.usage == BODY["usage"]


def test_usage_is_streamed_to_those_who_want_it_only() -> None:
    assert b"usage" not in as_stream(encoded(), wants_usage=False)


def test_calls_of_tools_are_numbered_as_streams_number_them() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}

    event = next(read_events(as_stream(encoded(choices=[choice]), wants_usage=False)))

    assert event is not None and event.choices is not None
    assert [call.index for call in event.choices[0].said.tool_calls or ()] == [0]


def test_only_the_usage_of_a_frame_is_changed() -> None:
    piece = b'data: {"choices":[{"delta":{"content":"the usage"}}],"usage":null}\n\n'
    last = b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n'

    frame = frame_with_usage(piece + last + b"data: [DONE]\n\n", {"prompt_tokens": 5})

    assert frame == piece + b'data: {"choices":[],"usage":{"prompt_tokens":5}}\n\n' + b"data: [DONE]\n\n"


def test_what_is_no_answer_is_broken() -> None:
    with pytest.raises(UpstreamBroken):
        as_stream(b"<html>", wants_usage=True)
