"""A kept answer is given again exactly, at no cost, whole or in pieces, in every dialect."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import Message
from hypothesis import given
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

from gateway.cache.complete import Collector
from gateway.cache.replayed import along, body, end, frames
from gateway.wire.messages_events import MessagesWriter
from gateway.wire.messages_reply import Asked
from gateway.wire.responses_request import parse_responses
from gateway.wire.responses_stream import ResponsesWriter
from gateway.wire.sse import DONE, payload_of
from tests.unit.gateway.wire.chat_answers import messages, whole

LONG = "The quick brown fox jumps over the lazy dog, again and again.\n\n" * 12
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": json.dumps({"at": LONG})}}
FULL = {
    "id": "c1",
    "object": "chat.completion",
    "created": 5,
    "model": "m",
    "citations": ["u"],
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": LONG, "reasoning_content": LONG[7:], "tool_calls": [CALL]},
            "finish_reason": "tool_calls",
            "logprobs": None,
        }
    ],
    "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12, "cost": 0.2, "upstream_cost": 0.1},
}
STORED = json.dumps(FULL).encode()


def chunks_of(stored: bytes, wants_usage: bool = True) -> list[Any]:
    """The chunks of all frames, without the mark at the end."""
    events = b"".join(frames(stored, wants_usage)).split(b"\n\n")[:-1]
    return [json.loads(payload_of(one)) for one in events[:-1]]


def collected(stored: bytes) -> Any:
    """What would be kept of the kept answer's stream."""
    collector = Collector("chat", stream=True)
    for frame in frames(stored, wants_usage=True):
        collector.feed(frame)
    found = collector.whole()
    return None if found is None else json.loads(found)


def test_a_kept_answer_costs_nothing_and_says_that_it_is_one() -> None:
    said = json.loads(body(STORED))

    assert said["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "total_tokens": 12,
        "cost": 0,
        "cached": True,
    }
    assert {**said, "usage": FULL["usage"]} == FULL


def test_a_stream_of_it_comes_in_pieces_and_ends_like_any_other() -> None:
    chunks = chunks_of(STORED)
    texts = [chunk["choices"][0]["delta"].get("content") for chunk in chunks if chunk["choices"]]
    pieces = [text for text in texts if text]

    assert "".join(pieces) == LONG
    assert all(len(piece) <= 73 and piece[-1].isspace() for piece in pieces)
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-1]["usage"]["cached"] is True
    assert frames(STORED, wants_usage=True)[-1].endswith(DONE)
    assert all(frame.count(b"\n\n") <= 4 for frame in frames(STORED, wants_usage=True))


def test_usage_is_streamed_only_where_it_is_wanted() -> None:
    assert not any("usage" in chunk for chunk in chunks_of(STORED, wants_usage=False))


@given(messages())
def test_its_stream_says_exactly_what_was_kept(message: Any) -> None:
    stored = whole(message)
    found = collected(stored)
    if found is not None:
        said, kept = found["choices"][0]["message"], json.loads(stored)["choices"][0]["message"]
        assert {name: value for name, value in said.items() if value} == kept


def test_everything_of_a_full_answer_survives_its_stream() -> None:
    found = collected(STORED)

    assert found["citations"] == ["u"]
    assert found["choices"][0]["message"] == FULL["choices"][0]["message"]  # type: ignore[index]


@pytest.mark.parametrize("tokens", [["The ", "answer"], ["byte", "s\\xe2"]])
def test_probabilities_stay_with_their_text(tokens: list[str]) -> None:
    logprobs = {"content": [{"token": token, "logprob": -0.5} for token in tokens], "refusal": None}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "The answer"},
        "finish_reason": "stop",
        "logprobs": logprobs,
    }
    found = collected(json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode())

    assert found["choices"][0]["message"]["content"] == "The answer"
    assert found["choices"][0]["logprobs"]["content"] == logprobs["content"]


def test_thoughts_under_two_names_are_said_once() -> None:
    message = {"role": "assistant", "content": "Hi", "reasoning": LONG, "reasoning_content": LONG}
    chunks = chunks_of(whole(message))

    assert "".join(c["choices"][0]["delta"].get("reasoning", "") for c in chunks if c["choices"]) == LONG
    assert collected(whole(message))["choices"][0]["message"] == message


def test_chat_clients_can_read_it() -> None:
    assert ChatCompletion.model_validate_json(body(STORED)).choices[0].message.content == LONG
    for chunk in chunks_of(STORED):
        ChatCompletionChunk.model_validate(chunk)


def test_clients_of_anthropics_dialect_can_read_it() -> None:
    asked = Asked("m", (), thoughts=True)
    told = json.loads(MessagesWriter(asked, "req_1").whole(body(STORED)))
    writer = MessagesWriter(asked, "req_1")
    events = b"".join(writer.feed(frame) for frame in frames(STORED, wants_usage=True)) + writer.end()
    payloads = [json.loads(payload_of(one)) for one in events.split(b"\n\n")[:-1]]
    deltas = [found["delta"] for found in payloads if found["type"] == "content_block_delta"]

    message = Message.model_validate(told)
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    assert (told["usage"]["cost"], told["usage"]["cached"]) == (0, True)
    assert "".join(delta.get("text", "") for delta in deltas) == LONG
    assert "".join(delta.get("thinking", "") for delta in deltas) == LONG[7:]
    assert json.loads("".join(delta.get("partial_json", "") for delta in deltas)) == {"at": LONG}
    assert payloads[-1]["type"] == "message_stop"


def test_clients_of_responses_can_read_it() -> None:
    request = parse_responses(b'{"model":"m","input":"Hi"}', ())
    told = json.loads(ResponsesWriter(request).whole(body(STORED)))
    writer = ResponsesWriter(request)
    for frame in frames(STORED, wants_usage=True):
        writer.feed(frame)
    writer.end()

    assert Response.model_validate(told).output_text == LONG
    assert writer.response is not None
    for response in (told, writer.response):
        assert [item["type"] for item in response["output"]] == ["reasoning", "message", "function_call"]
        assert response["output"][2]["arguments"] == CALL["function"]["arguments"]  # type: ignore[index]
        assert (response["usage"]["cost"], response["usage"]["cached"]) == (0, True)
    assert Response.model_validate(writer.response).output_text == LONG


@pytest.mark.parametrize(
    ("frame", "shown"),
    [
        (b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'),
        (b'data: {"choices":[{"delta":{}}],"usage":null}\n\n', b'data: {"choices":[{"delta":{}}]}\n\n'),
        (b'data: {"choices":[],"usage":{"cost":1}}\n\ndata: [DONE]\n\n', b""),
        (b'data: {"usage":{"cost":1}}\n\n: "usage"\n\n', b': "usage"\n\n'),
        (b"data:[DONE]\n\n", b""),
        (b'data: {"choices":[{"delta":{"content":"say \\"usage\\" [DONE]"}}]}\n\n', None),
    ],
)
def test_what_comes_along_says_nothing_of_another_requests_usage(frame: bytes, shown: bytes | None) -> None:
    assert along(frame) == (frame if shown is None else shown)


@pytest.mark.parametrize("stored", [json.dumps(FULL).encode(), b""])
def test_what_comes_along_ends_with_the_usage_of_a_kept_answer(stored: bytes) -> None:
    frame = b': hi\n\ndata: {"id":"c1","created":5,"model":"m","choices":[{"delta":{"content":"a"}}]}\n\n'

    said, _, done = end(frame, stored, (7, 5), wants_usage=True).partition(b"\n\n")

    cached = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12, "cost": 0, "cached": True}
    head = {"id": "c1", "created": 5, "model": "m", "object": "chat.completion.chunk"}
    assert json.loads(payload_of(said)) == {**head, "choices": [], "usage": cached} and done == DONE
    assert end(frame, stored, (7, 5), wants_usage=False) == DONE
