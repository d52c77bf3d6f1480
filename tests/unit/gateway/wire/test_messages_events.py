"""Chat streams of all kinds of vendors as Anthropic's events, one block after the other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import UpstreamBroken
from gateway.wire.messages_events import PING, MessagesWriter
from gateway.wire.messages_reply import Asked
from gateway.wire.sse import DONE, event
from tests.unit.gateway.wire.message_shapes import Words, accumulated


def chunk(**fields: Any) -> bytes:
    return event(json.dumps({"id": "c", "model": "w", "choices": [], **fields}).encode())


def delta(finish: str | None = None, **said: Any) -> bytes:
    return chunk(choices=[{"index": 0, "delta": said, "finish_reason": finish}])


def call(index: int | None, call_id: str | None = None, name: str | None = None, words: str = "") -> Words:
    piece: Words = {"id": call_id, "function": {"name": name, "arguments": words}}
    return piece if index is None else {"index": index, **piece}


def written(*frames: bytes, stops: tuple[str, ...] = (), thoughts: bool = True) -> list[Words]:
    writer = MessagesWriter(Asked("m", stops, thoughts), "req_7", prompt_tokens=5)
    text = b"".join([*map(writer.feed, frames), writer.end()]).decode()
    return [json.loads(one.split("data: ", 1)[1]) for one in text.split("\n\n")[:-1]]


def test_a_plain_answer_is_these_events_and_no_others() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}, "cost": 0.5}

    start, *events = written(
        delta(role="assistant", content=""), delta(content="Hi"), delta("stop"), chunk(usage=usage), DONE
    )

    assert start["message"] == {
        "id": "msg_7",
        "type": "message",
        "role": "assistant",
        "model": "w",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 5,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 0,
        },
    }
    counts = {"input_tokens": 6, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 2}
    assert events == [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {**counts, "cost": 0.5},
        },
        {"type": "message_stop"},
    ]


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("tool_calls", "tool_use"), ("content_filter", "refusal")],
)
def test_finishes_have_anthropics_names(finish: str, reason: str) -> None:
    assert accumulated(written(delta(content="x"), delta(finish), DONE))["stop_reason"] == reason


@pytest.mark.parametrize("name", ["stop_reason", "matched_stop"])
def test_a_stop_sequence_is_named_where_the_upstream_tells_it(name: str) -> None:
    last = chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop", name: "END"}])

    message = accumulated(written(delta(content="x"), last, DONE, stops=("END",)))

    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")


def test_calls_whose_pieces_are_mixed_come_one_after_the_other() -> None:
    message = accumulated(
        written(
            delta(tool_calls=[call(0, "a", "f", '{"x"'), call(1, "b", "g", '{"y"')]),
            delta(tool_calls=[call(1, words=": 2}")]),
            delta(tool_calls=[call(0, words=": 1}"), call(2, "c", "h")]),
            delta("tool_calls"),
            DONE,
        )
    )

    assert [(one["id"], one["name"], one["input"]) for one in message["content"]] == [
        ("a", "f", {"x": 1}),
        ("b", "g", {"y": 2}),
        ("c", "h", {}),
    ]


def test_a_second_call_is_streamed_as_soon_as_the_first_is_complete() -> None:
    writer = MessagesWriter(Asked("m", (), thoughts=False), "req_7")
    writer.feed(delta(tool_calls=[call(0, "a", "f", '{"x": 1}')]))

    shown = writer.feed(delta(tool_calls=[call(1, "b", "g", '{"y"')]))

    assert shown.index(b"content_block_stop") < shown.index(b'"name":"g"') < shown.index(b"input_json_delta")


def test_whole_calls_without_an_index_or_an_id_are_calls_all_the_same() -> None:
    frames = [delta(tool_calls=[call(None, "a", "f", "{}"), call(None, "b", "g", "{}")]), delta("stop"), DONE]

    message = accumulated(written(*frames))
    nameless = accumulated(written(delta(tool_calls=[call(0, None, "f", "{}")]), delta("stop"), DONE))

    assert [one["id"] for one in message["content"]] == ["a", "b"]
    assert message["stop_reason"] == "tool_use"
    assert nameless["content"][0]["id"].startswith("toolu_")


def test_text_in_the_middle_of_a_call_waits_for_its_end() -> None:
    message = accumulated(
        written(
            delta(tool_calls=[call(0, "a", "f", "{")]),
            delta(content="wait"),
            delta(tool_calls=[call(0, words="}")]),
            delta("tool_calls"),
            DONE,
        )
    )

    assert [one["type"] for one in message["content"]] == ["tool_use", "text"]


@pytest.mark.parametrize(("thoughts", "kinds"), [(True, ["thinking", "text"]), (False, ["text"])])
def test_reasoning_is_shown_to_those_who_asked_for_thinking(thoughts: bool, kinds: list[str]) -> None:
    events = written(delta(reasoning_content="hm"), delta(content="x"), delta("stop"), DONE, thoughts=thoughts)

    assert [one["type"] for one in accumulated(events)["content"]] == kinds


def test_a_refusal_is_text_and_says_so_at_the_end() -> None:
    message = accumulated(written(delta(refusal="No."), delta("stop"), DONE))

    assert (message["content"], message["stop_reason"]) == ([{"type": "text", "text": "No."}], "refusal")


def test_a_cut_by_the_budget_is_told() -> None:
    cut = chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "length"}], fingerpost={"budget_exhausted": True})

    events = written(delta(content="x"), cut, DONE)

    assert events[-2]["fingerpost"] == {"budget_exhausted": True}
    assert events[-2]["delta"]["stop_reason"] == "max_tokens"


def test_comments_become_pings_once_the_message_has_begun() -> None:
    writer = MessagesWriter(Asked("m", (), thoughts=False), "req_7")

    assert writer.feed(b": alive\n\n") == b""
    writer.feed(delta(content="x"))
    assert writer.feed(b": alive\n\n") == PING


def test_a_stream_that_never_began_owes_nothing() -> None:
    assert MessagesWriter(Asked("m", (), thoughts=False), "req_7").end() == b""


def test_a_whole_call_whose_arguments_are_broken_is_a_broken_answer() -> None:
    choice = {"message": {"tool_calls": [call(0, "a", "f", "{oops")]}, "finish_reason": "tool_calls"}

    with pytest.raises(UpstreamBroken):
        MessagesWriter(Asked("m", (), thoughts=False), "r").whole(json.dumps({"choices": [choice]}).encode())
