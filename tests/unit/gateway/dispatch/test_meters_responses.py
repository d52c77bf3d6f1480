"""The meter of responses that come from endpoints of their own dialect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.dispatch.meters.find import meter_class
from gateway.dispatch.meters.responses import ResponsesMeter
from gateway.errors import UpstreamBroken
from gateway.wire.responses_request import parse_responses
from gateway.wire.responses_stream import ResponsesWriter
from policies.catalogue import ModelCard
from tests.unit.gateway.wire import chat_answers

CARD = ModelCard(id="m", context_tokens=100, price_in_usd_per_mtok=1, price_out_usd_per_mtok=2)
MESSAGE = {"reasoning_content": "hm", "content": "hello there", "tool_calls": []}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1, "b": 2}'}}


def meter() -> ResponsesMeter:
    return ResponsesMeter(CARD, 4, wants_usage=False)


def stream(message: dict[str, Any], **fields: Any) -> list[bytes]:
    """What an endpoint of this dialect sends, one event a frame."""
    writer = ResponsesWriter(parse_responses(json.dumps({"model": "m", "input": "x", **fields}).encode()))
    text = b"".join(map(writer.feed, chat_answers.chunks(message, 3))) + writer.end()
    return [one + b"\n\n" for one in text.split(b"\n\n")[:-1]]


def payload(frame: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(frame.split(b"data: ", 1)[1])
    return found


def test_the_meter_is_found_by_the_dialects_name() -> None:
    assert meter_class("responses") is ResponsesMeter


def test_a_stream_passes_byte_for_byte_but_for_its_last_event_which_is_given_its_cost() -> None:
    one, frames = meter(), stream(MESSAGE)

    shown = [one.stream(frame) for frame in frames]

    assert shown[:-1] == frames[:-1]
    usage = payload(shown[-1])["response"]["usage"]
    assert usage["cost"] == pytest.approx(17e-6) and usage["upstream_cost"] == 0.25
    assert (one.done, one.finish_reason) == (True, "completed")
    assert (one.settle().input_tokens, one.settle().output_tokens, one.settle().estimated) == (7, 5, False)
    assert one.end_of_stream() == b""


def test_a_whole_answer_is_given_its_cost_and_keeps_everything_else() -> None:
    body = {"id": "r", "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": []}
    details = {"cached_tokens": 2, "cache_write_tokens": 3, "cache_write_tokens_details": {"ttl_12h_tokens": 1}}
    usage = {"input_tokens": 10, "output_tokens": 4, "input_tokens_details": details, "total_tokens": 14}
    one = meter()

    shown = json.loads(one.whole(json.dumps({**body, "usage": usage, "odd": None}).encode()))

    cost = shown["usage"].pop("cost")
    assert shown == {**body, "usage": usage, "odd": None}
    assert cost == one.settle().cost_nanousd / 1e9 > 0
    told = one.settle()
    assert (told.cached_tokens, told.cache_write_tokens, told.cache_write_long_tokens) == (2, 3, 1)
    assert one.finish_reason == "max_output_tokens"


def test_an_answer_without_usage_is_estimated_and_says_so() -> None:
    output = [{"type": "message", "content": [{"type": "output_text", "text": "hello there " * 20}]}]
    one = meter()

    shown = json.loads(one.whole(json.dumps({"output": output, "usage": None}).encode()))

    assert one.settle().estimated and shown["usage"]["estimated"] is True
    assert 20 < shown["usage"]["output_tokens"] < 120


def test_what_is_no_answer_and_a_stream_without_end_are_broken() -> None:
    with pytest.raises(UpstreamBroken):
        meter().whole(b'{"choices":[]}')
    with pytest.raises(UpstreamBroken):
        meter().end_of_stream()


def test_the_running_cost_grows_with_what_is_said() -> None:
    one = meter()
    costs = []

    for frame in stream(MESSAGE)[:-1]:
        one.stream(frame)
        costs.append(one.running_cost_nanousd)

    assert 4000 <= costs[0] < costs[-1]
    assert costs[-1] >= 4000 + 2000 * 2  # two words at least


@pytest.mark.parametrize("fields", [{}, {"reasoning": {"summary": "auto"}}])
@pytest.mark.parametrize("message", [MESSAGE, {"refusal": "no no no"}, {"content": "x", "tool_calls": [CALL]}])
def test_a_stream_may_be_cut_after_any_event_and_ends_as_one_that_met_its_length(
    message: dict[str, Any], fields: dict[str, Any]
) -> None:
    frames = stream(message, **fields)

    for place in range(1, len(frames)):
        one = meter()
        for frame in frames[:place]:
            one.stream(frame)
        events = [payload(text) for text in (b"".join(frames[:place]) + one.cut()).split(b"\n\n")[:-1]]

        response = events[-1]["response"]
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        assert (events[-1]["type"], response["fingerpost"]) == ("response.incomplete", {"budget_exhausted": True})
        added, done = (
            [event["output_index"] for event in events if event["type"] == f"response.output_item.{what}"]
            for what in ("added", "done")
        )
        assert added == done and len(response["output"]) == len(done)
        assert response["usage"]["estimated"] is True and one.done and one.cut() == b""


def test_what_was_said_before_a_cut_is_in_the_last_event() -> None:
    frames = stream({"content": "hello there"})
    one = meter()

    for frame in frames[:6]:
        one.stream(frame)
    response = payload(one.cut().split(b"\n\n")[-2] + b"\n\n")["response"]

    assert response["output"][0]["content"][0]["text"] == "hello "
    assert response["output"][0]["status"] == "incomplete"
