"""Whole answers are kept whole; whatever is cut, refused, broken or uncertain is not kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.complete import Collector
from gateway.wire.sse import DONE, event
from tests.unit.gateway.wire.chat_answers import chunks, messages, whole

CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}


def kept(frames: list[bytes], dialect: str = "chat", **told: Any) -> Any:
    """What is kept of a stream."""
    collector = Collector(dialect, stream=True)
    for frame in frames:
        collector.feed(frame)
    body = collector.whole(**told)
    return None if body is None else json.loads(body)


def kept_whole(body: Any, dialect: str = "chat", **told: Any) -> Any:
    """What is kept of a whole answer."""
    collector = Collector(dialect, stream=False)
    collector.feed(body if isinstance(body, bytes) else json.dumps(body).encode())
    found = collector.whole(**told)
    return None if found is None else json.loads(found)


def stream(*chunks_: Any, done: bytes = DONE) -> list[bytes]:
    """Chunks as frames."""
    return [*(event(json.dumps(chunk).encode()) for chunk in chunks_), done]


def chunk(delta: Any, finish: str | None = None, **more: Any) -> Any:
    """One chunk of one choice."""
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish, **more}]}


def named(*events: Any) -> list[bytes]:
    """Events of Anthropic's dialect."""
    return [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in events]


def anthropic(*blocks: Any, stop: str = "end_turn", **more: Any) -> Any:
    """A whole message of Anthropic's API."""
    usage = {"input_tokens": 3, "output_tokens": 4, "cost": 0.1}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
    return {**head, "content": list(blocks), "stop_reason": stop, "usage": usage, **more}


def spoken(message: Any) -> list[bytes]:
    """The same message as its events."""
    events: list[Any] = [{"type": "message_start", "message": {**message, "content": [], "stop_reason": None}}]
    for index, block in enumerate(message["content"]):
        empty = {"text": "", "thinking": "", "signature": "", "input": {}}
        begun = {name: empty.get(name, value) for name, value in block.items()}
        events.append({"type": "content_block_start", "index": index, "content_block": begun})
        for kind, name in (("text", "text"), ("thinking", "thinking"), ("signature", "signature")):
            for piece in (block.get(name, "")[:2], block.get(name, "")[2:]):
                delta = {"type": f"{kind}_delta", name: piece}
                events.append({"type": "content_block_delta", "index": index, "delta": delta}) if piece else None
        if block.get("input"):
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    end = {"stop_reason": message["stop_reason"], "stop_sequence": message["stop_sequence"]}
    return named(*events, {"type": "message_delta", "delta": end, "usage": message["usage"]}, {"type": "message_stop"})


TEXT = {"type": "text", "text": "Hello"}
CALL = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}
THOUGHT = {"type": "thinking", "thinking": "Hmm, well", "signature": "c2ln"}


def essence(answer: Any) -> Any:
    """What clients see of the first choice."""
    message = {name: value for name, value in answer["choices"][0]["message"].items() if value}
    return message, answer["choices"][0]["finish_reason"], answer["usage"]


@given(messages(), st.integers(1, 9))
def test_a_stream_is_kept_as_the_whole_answer_that_it_says(message: Any, size: int) -> None:
    says = any(message.get(name, "").strip() for name in ("content", "refusal")) or message.get("tool_calls")
    of_stream, of_whole = kept(chunks(message, size)), kept_whole(whole(message))

    assert (of_stream is None) == (of_whole is None) == (not says)
    if says:
        assert essence(of_stream)[:2] == essence(of_whole)[:2]


@given(messages(), st.data())
def test_a_stream_that_is_cut_anywhere_is_not_kept(message: Any, data: st.DataObject) -> None:
    raw = b"".join(chunks(message, 3))
    place = data.draw(st.integers(0, len(raw) - 3))  # the mark at the end is whole before its second newline

    assert kept([raw[:place]]) is None


@given(st.lists(st.binary(max_size=80)), st.sampled_from(["chat", "messages", "responses"]), st.booleans())
def test_no_bytes_make_it_raise(frames: list[bytes], dialect: str, is_stream: bool) -> None:
    collector = Collector(dialect, is_stream)
    for frame in frames:
        collector.feed(frame)

    assert collector.whole() is None


_JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "index",
                    "delta",
                    "message",
                    "choices",
                    "content",
                    "text",
                    "tool_calls",
                    "function",
                    "name",
                    "id",
                    "usage",
                    "logprobs",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
)


@given(st.lists(_JSON, max_size=4), st.sampled_from(["chat", "messages"]))
def test_no_strange_events_make_it_raise(events: list[Any], dialect: str) -> None:
    kept(stream(*events), dialect)
    for found in events:
        kept_whole(found, dialect)


@pytest.mark.parametrize("finish", [None, "length", "content_filter", "error", "abort", 3])
def test_an_answer_that_did_not_end_well_is_not_kept(finish: Any) -> None:
    assert kept_whole({"choices": [{**CHOICE, "finish_reason": finish}]}) is None


def test_an_answer_that_the_requests_own_bound_cut_is_kept() -> None:
    body = {"choices": [{**CHOICE, "finish_reason": "length"}]}

    assert kept_whole(body, length_is_own=True)["choices"] == body["choices"]


@pytest.mark.parametrize(
    "more", [{"error": {"message": "no"}}, {"fingerpost": {"budget_exhausted": True}}, {"choices": []}]
)
def test_an_answer_with_an_error_or_a_cut_budget_is_not_kept(more: Any) -> None:
    assert kept_whole({"choices": [CHOICE], **more}) is None
    assert kept(stream(chunk({"content": "Hi"}, "stop"), more if "choices" not in more else {"error": 1})) is None


@pytest.mark.parametrize("content", [None, "", " \n", [], [{"type": "text", "text": ""}]])
def test_an_empty_answer_is_not_kept(content: Any) -> None:
    assert kept_whole({"choices": [{**CHOICE, "message": {"role": "assistant", "content": content}}]}) is None


def test_one_of_several_choices_that_is_not_complete_spoils_all() -> None:
    assert kept_whole({"choices": [CHOICE, {**CHOICE, "index": 1, "finish_reason": "length"}]}) is None


def test_an_answer_over_the_bound_is_let_go() -> None:
    collector = Collector("chat", stream=False, max_bytes=20)
    collector.feed(json.dumps({"choices": [CHOICE]}).encode())

    assert collector.whole() is None


def test_a_whole_answer_to_a_client_of_a_stream_is_kept() -> None:
    assert kept([json.dumps({"choices": [CHOICE]}).encode()])["choices"] == [CHOICE]


def test_calls_choices_and_probabilities_are_joined() -> None:
    token = {"token": "Hi", "logprob": -1}
    frames = stream(
        chunk({"role": "assistant", "content": "H"}, logprobs={"content": [token]}, provider="x"),
        {"id": "c", "choices": [{"index": 1, "delta": {"content": "B"}, "finish_reason": None}]},
        chunk({"content": "i"}, logprobs={"content": [token], "refusal": None}, provider="x"),
        chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x"'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
        chunk({"tool_calls": [{"index": 0, "id": "b", "function": {"name": "g", "arguments": ""}}]}),
        chunk({"annotations": [1]}),
        chunk({"annotations": [2]}, "tool_calls"),
        {"id": "c", "choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]},
    )
    first, second = kept(frames)["choices"]

    assert second["message"]["content"] == "B"
    assert first["message"]["content"] == "Hi"
    assert first["message"]["annotations"] == [1, 2]
    assert first["logprobs"] == {"content": [token, token]}
    assert first["provider"] == "x"
    assert [(call["id"], call["function"]["arguments"]) for call in first["message"]["tool_calls"]] == [
        ("a", '{"x":1}'),
        ("b", ""),
    ]


@pytest.mark.parametrize(
    "deltas", [[{"new": "a"}, {"new": "b"}], [{"new": "a"}, {"new": "a"}], [{"content": [1]}], [{"tool_calls": 1}]]
)
def test_pieces_that_join_nobody_knows_how_are_not_kept(deltas: list[Any]) -> None:
    assert kept(stream(*map(chunk, deltas), chunk({"content": "Hi"}, "stop"))) is None


def test_arguments_that_are_no_object_are_not_kept() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "[1"}}

    assert kept_whole({"choices": [{**CHOICE, "message": {"content": "Hi", "tool_calls": [call]}}]}) is None


def test_tokens_are_told_where_the_stream_told_none() -> None:
    usage = kept(stream(chunk({"content": "Hi"}, "stop")), tokens=(3, 4))["usage"]

    assert usage == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


@pytest.mark.parametrize("blocks", [[TEXT], [THOUGHT, TEXT, CALL], [CALL], [THOUGHT, CALL, {**CALL, "id": "t2"}]])
def test_a_native_message_is_kept_as_the_chat_answer_that_it_equals(blocks: list[Any]) -> None:
    message = anthropic(*blocks)
    of_whole = kept_whole(message, "messages")

    assert essence(kept(spoken(message), "messages")) == essence(of_whole)
    assert of_whole["choices"][0]["message"].get("thinking_blocks", [THOUGHT]) == [THOUGHT]
    assert of_whole["usage"]["total_tokens"] == 7


@pytest.mark.parametrize(
    "message",
    [
        anthropic({**TEXT, "citations": [{"type": "char_location"}]}),
        anthropic({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, TEXT),
        anthropic(TEXT, THOUGHT),
        anthropic(TEXT, TEXT),
        anthropic(TEXT, container={"id": "x"}),
        anthropic(TEXT, fingerpost={"budget_exhausted": True}),
        *(anthropic(TEXT, stop=stop) for stop in ("max_tokens", "refusal", "pause_turn", "new_one")),
        anthropic(),
    ],
)
def test_a_native_message_that_chat_would_lose_some_of_is_not_kept(message: Any) -> None:
    assert kept_whole(message, "messages") is None
    assert kept(spoken(message), "messages") is None


@given(st.data())
def test_a_native_stream_that_is_cut_anywhere_is_not_kept(data: st.DataObject) -> None:
    raw = b"".join(spoken(anthropic(THOUGHT, TEXT, CALL)))

    assert kept([raw[: data.draw(st.integers(0, len(raw) - 2))]], "messages") is None
