"""Native responses are kept as the chat answers that they are equal to; what chat would lose some of is not kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.responses_request import parse_responses
from gateway.wire.responses_stream import ResponsesWriter
from tests.unit.gateway.cache.test_complete import essence, kept, kept_whole, named
from tests.unit.gateway.wire.chat_answers import chunks, messages, whole

TEXT = {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
REFUSAL = {"type": "refusal", "refusal": "No."}
SILENT: dict[str, Any] = {"type": "reasoning", "id": "rs_1", "summary": []}
THOUGHT: dict[str, Any] = {**SILENT, "summary": [{"type": "summary_text", "text": "Hmm"}]}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "status": "completed",
    "call_id": "c1",
    "name": "look",
    "arguments": '{"a":1}',
}


def said(*parts: Any, **more: Any) -> Any:
    """A message of these parts."""
    head = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    return {**head, "content": list(parts), **more}


def response(*items: Any, **more: Any) -> Any:
    """A whole response."""
    usage = {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 1},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 7,
        "cost": 0.1,
    }
    head = {"id": "resp_1", "object": "response", "created_at": 1.5, "status": "completed", "model": "m", "error": None}
    return {**head, "incomplete_details": None, "output": list(items), "usage": usage, "tools": [], "odd": 1, **more}


def spoken(found: Any) -> list[bytes]:
    """The same as a stream's events, those in between left out but one."""
    delta = {"type": "response.output_text.delta", "delta": "Hel"}
    begun = {"type": "response.created", "response": {**found, "status": "in_progress", "output": []}}
    return named(begun, delta, {"type": f"response.{found['status']}", "response": found})


def writer() -> ResponsesWriter:
    return ResponsesWriter(parse_responses(b'{"model":"m","input":"x"}'))


@given(messages(), st.integers(1, 9))
def test_what_a_chat_says_as_a_response_is_kept_as_what_the_chat_said(message: Any, size: int) -> None:
    calls = message.get("tool_calls", ())
    finish = "tool_calls" if calls else "stop"
    one, streaming = writer(), writer()
    events = [*map(streaming.feed, chunks(message, size, finish)), streaming.end()]

    found = kept_whole(one.whole(whole(message, finish)), "responses")

    if any("extra_content" in call for call in calls):
        assert found is None and kept(events, "responses") is None
        return
    of_chat = kept_whole(whole(message, finish))
    assert (found is None) == (of_chat is None)
    if of_chat is not None:
        assert essence(found)[:2] == essence(of_chat)[:2] == essence(kept(events, "responses"))[:2]


@pytest.mark.parametrize(
    ("items", "message", "finish"),
    [
        ([SILENT, said(TEXT)], {"content": "Hello"}, "stop"),
        ([THOUGHT, said(TEXT), CALL], {"reasoning_content": "Hmm", "content": "Hello"}, "tool_calls"),
        ([SILENT, CALL, SILENT, {**CALL, "call_id": "c2"}], {}, "tool_calls"),
        ([said(REFUSAL)], {"refusal": "No."}, "stop"),
    ],
    ids=["text", "all", "calls", "refusal"],
)
def test_a_native_response_is_kept_as_the_chat_answer_that_it_equals(
    items: list[Any], message: Any, finish: str
) -> None:
    found = kept_whole(response(*items), "responses")

    told, end, usage = essence(found)
    calls = told.pop("tool_calls", [])
    assert told == {"role": "assistant", **message} and end == finish
    assert [call["function"]["arguments"] for call in calls] == ['{"a":1}'] * calls_of(items)
    assert usage["prompt_tokens"] == 3 and usage["completion_tokens"] == 4 and usage["total_tokens"] == 7
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 2} and "input_tokens" not in usage
    assert essence(kept(spoken(response(*items)), "responses")) == essence(found)


def calls_of(items: list[Any]) -> int:
    return sum(item["type"] == "function_call" for item in items)


def test_probabilities_of_its_tokens_are_kept() -> None:
    told = [{"token": "Hello", "logprob": -0.1, "bytes": [72], "top_logprobs": []}]

    found = kept_whole(response(said({**TEXT, "logprobs": told})), "responses")

    assert found["choices"][0]["logprobs"]["content"] == told


@pytest.mark.parametrize(
    "found",
    [
        response({"type": "web_search_call", "id": "ws_1", "status": "completed"}, said(TEXT)),
        response({"type": "code_interpreter_call", "id": "ci_1", "container_id": "c"}, said(TEXT)),
        response({"type": "mcp_call", "id": "m"}, said(TEXT)),
        response({"type": "custom_tool_call", "call_id": "c", "name": "n", "input": "x"}),
        response({"type": "compaction", "encrypted_content": "x"}, said(TEXT)),
        response(said({**TEXT, "annotations": [{"type": "url_citation", "url": "https://example.com"}]})),
        response(said(TEXT, TEXT)),
        response(said(REFUSAL, TEXT)),
        response(said(TEXT), said(TEXT)),
        response(said(TEXT), THOUGHT),
        response(CALL, said(TEXT)),
        response(said(TEXT, phase="commentary")),
        response({**THOUGHT, "encrypted_content": "x"}, said(TEXT)),
        response({**SILENT, "encrypted_content": "x"}, said(TEXT)),
        response({**THOUGHT, "summary": THOUGHT["summary"] * 2}, said(TEXT)),
        response({**CALL, "namespace": "x"}),
        response({**CALL, "arguments": "{"}),
        response(said(TEXT), conversation={"id": "conv_1"}),
        response(said(TEXT), background=True),
        response(said(TEXT), fingerpost={"budget_exhausted": True}),
        response(said(TEXT), status="failed", error={"code": "server_error", "message": "x"}),
        response(said(TEXT), status="in_progress"),
        response(said(TEXT), status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
        response(said(TEXT), status="incomplete", incomplete_details={"reason": "content_filter"}),
        response(said({"type": "output_text"})),
        response(),
    ],
)
def test_a_native_response_that_chat_would_lose_some_of_is_not_kept(found: Any) -> None:
    assert kept_whole(found, "responses") is None
    assert kept(spoken(found), "responses") is None


def test_one_that_the_requests_own_bound_cut_is_kept() -> None:
    found = response(said(TEXT), status="incomplete", incomplete_details={"reason": "max_output_tokens"})

    assert kept(spoken(found), "responses", length_is_own=True)["choices"][0]["finish_reason"] == "length"


@given(st.data())
def test_a_native_stream_that_is_cut_anywhere_is_not_kept(data: st.DataObject) -> None:
    raw = b"".join(spoken(response(THOUGHT, said(TEXT), CALL)))

    assert kept([raw[: data.draw(st.integers(0, len(raw) - 2))]], "responses") is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "output", "content", "status", "object", "id", "text", "model"]), inner
        )
    ),
    max_leaves=8,
)


@given(_JSON, _JSON)
def test_no_strange_response_makes_it_raise(item: Any, field: Any) -> None:
    kept_whole(json.dumps(response(item)).encode(), "responses")
    kept_whole(json.dumps({**response(said(TEXT)), "output": field, "incomplete_details": field}).encode(), "responses")
    kept_whole(json.dumps(response(said(item), created_at=field, usage=field)).encode(), "responses")
