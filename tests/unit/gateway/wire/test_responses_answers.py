"""Chat answers as OpenAI's responses: the order of events, and that nothing is lost on the way there and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import UpstreamBroken
from gateway.wire.responses_dialect import ResponsesDialect
from gateway.wire.responses_request import parse_responses
from gateway.wire.responses_stream import ResponsesWriter
from gateway.wire.sse import event
from tests.unit.gateway.wire import chat_answers

SHOWN: dict[str, Any] = {"reasoning": {"summary": "auto"}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}


def writer(**fields: Any) -> ResponsesWriter:
    return ResponsesWriter(parse_responses(json.dumps({"model": "m", "input": "x", **fields}).encode()))


def events(frames: bytes) -> list[dict[str, Any]]:
    found = []
    for text in frames.decode().split("\n\n")[:-1]:
        name, payload = text.split("\n")
        found.append(json.loads(payload.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def streamed(message: dict[str, Any], size: int = 100, finish: str = "stop", **fields: Any) -> list[dict[str, Any]]:
    one = writer(**fields)
    return events(b"".join(map(one.feed, chat_answers.chunks(message, size, finish))) + one.end())


def without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_ids(one) for name, one in value.items() if name != "id"}
    return [without_ids(one) for one in value] if isinstance(value, list) else value


def test_a_text_is_told_in_openais_order() -> None:
    found = streamed({"content": "hi there"}, size=3)

    assert [one["type"].removeprefix("response.") for one in found] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [one["sequence_number"] for one in found] == list(range(len(found)))


def test_reasoning_and_parallel_calls_are_items_of_their_own() -> None:
    message = {"reasoning_content": "hm", "tool_calls": [CALL, {**CALL, "id": "call_2"}]}

    found = streamed(message, finish="tool_calls", **SHOWN)

    call = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"]
    assert [one["type"].removeprefix("response.") for one in found][2:-1] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        *call,
        *call,
    ]
    assert [item.get("call_id") for item in found[-1]["response"]["output"]] == [None, "call_1", "call_2"]


def test_reasoning_that_nobody_asked_to_see_summed_up_is_its_own_text() -> None:
    found = streamed({"reasoning_content": "hm", "content": "x"})

    assert "response.reasoning_text.delta" in [one["type"] for one in found]
    assert found[-1]["response"]["output"][0]["content"] == [{"type": "reasoning_text", "text": "hm"}]


@pytest.mark.parametrize(("finish", "cause"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_an_answer_that_was_cut_short_is_incomplete(finish: str, cause: str) -> None:
    found = streamed({"content": "x"}, finish=finish)

    response = found[-1]["response"]
    assert found[-1]["type"] == "response.incomplete"
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": cause})
    assert response["output"][0]["status"] == "incomplete"


def test_usage_has_the_names_of_this_dialect_and_the_cost() -> None:
    usage = streamed({"content": "x"})[-1]["response"]["usage"]

    assert usage == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 12,
        "cost": 0.25,
    }


def test_a_response_repeats_its_request() -> None:
    body = writer(temperature=0.5, metadata={"a": "b"}, user="u", store=False).whole(
        chat_answers.whole({"content": "x"})
    )

    response = json.loads(body)
    assert (response["temperature"], response["metadata"], response["user"]) == (0.5, {"a": "b"}, "u")
    assert (response["store"], response["object"], response["model"]) == (False, "response", "w")


def test_a_stream_that_breaks_ends_with_the_failed_response_and_an_error() -> None:
    one = writer()
    one.feed(chat_answers.chunks({"content": "x"}, 1)[1])

    found = events(one.failed(UpstreamBroken("It broke."), "req_1"))

    assert [event["type"] for event in found] == ["response.failed", "error"]
    assert found[0]["response"]["error"] == {"code": "server_error", "message": "It broke."}
    assert (found[1]["code"], found[1]["error"]["message"]) == ("upstream_broken", "It broke.")


def test_calls_that_an_upstream_numbers_alike_are_told_apart_by_their_ids() -> None:
    one = writer()
    for name in ("call_1", "call_2"):
        delta = {"tool_calls": [{**CALL, "index": 0, "id": name}]}
        one.feed(event(json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode()))

    one.end()

    assert one.response is not None
    assert [item["call_id"] for item in one.response["output"]] == ["call_1", "call_2"]


def test_signed_thoughts_come_back_as_they_were() -> None:
    blocks = [{"type": "thinking", "thinking": "hm", "signature": "s"}]
    message = {"role": "assistant", "content": "x", "reasoning_content": "hm", "thinking_blocks": blocks}

    output = json.loads(writer().whole(chat_answers.whole(message)))["output"]
    back = parse_responses(json.dumps({"model": "m", "input": output}).encode())

    assert json.loads(bytes(back.fields["messages"])) == [message]


@settings(deadline=None)
@given(chat_answers.messages(), st.integers(1, 5), st.booleans())
def test_a_stream_ends_with_what_the_whole_answer_says(message: dict[str, Any], size: int, shown: bool) -> None:
    fields = SHOWN if shown else {}

    found = streamed(message, size, **fields)[-1]["response"]
    whole = json.loads(writer(**fields).whole(chat_answers.whole(message)))

    assert without_ids(found["output"]) == without_ids(whole["output"])
    assert found["usage"] == whole["usage"]


@settings(deadline=None)
@given(chat_answers.messages(), st.booleans())
def test_an_answer_sent_back_as_input_is_the_message_it_was(message: dict[str, Any], shown: bool) -> None:
    output = json.loads(writer(**(SHOWN if shown else {})).whole(chat_answers.whole(message)))["output"]

    request = parse_responses(json.dumps({"model": "m", "input": output}).encode())

    assert json.loads(bytes(request.fields["messages"])) == [message]


def test_the_dialects_error_event_makes_sdks_raise() -> None:
    text = ResponsesDialect().error_event(UpstreamBroken("It broke."), "req_1")

    assert events(text)[0]["error"]["message"] == "It broke."
