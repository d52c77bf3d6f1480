"""Requests of OpenAI's responses as chat requests: what is translated, what is not, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import InvalidRequest, UnsupportedCapability
from gateway.wire.chat_request import ChatRequest
from gateway.wire.responses_request import parse_responses, previous_id_of

CALL = {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": '{"a":1}'}
CHAT_CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}


def read(**fields: Any) -> ChatRequest:
    return parse_responses(json.dumps({"model": "m", "input": "hello", **fields}).encode())


def chat(request: ChatRequest) -> dict[str, Any]:
    return {name: json.loads(bytes(raw)) for name, raw in request.fields.items()}


def messages(items: list[Any]) -> Any:
    return chat(read(input=items))["messages"]


def test_a_text_is_what_the_user_says_after_the_instructions() -> None:
    assert chat(read(instructions="Be brief."))["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hello"},
    ]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"role": "developer", "content": "x"}, {"role": "developer", "content": "x"}),
        (
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]},
            {"role": "user", "content": [{"type": "text", "text": "x"}]},
        ),
        (
            {"role": "user", "content": [{"type": "input_image", "image_url": "data:x", "detail": "low"}]},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}}]},
        ),
        (
            {"role": "user", "content": [{"type": "input_file", "file_data": "data:x", "filename": "a.pdf"}]},
            {"role": "user", "content": [{"type": "file", "file": {"file_data": "data:x", "filename": "a.pdf"}}]},
        ),
        (
            {"role": "assistant", "content": [{"type": "output_text", "text": "x", "annotations": []}]},
            {"role": "assistant", "content": "x"},
        ),
        (CALL, {"role": "assistant", "tool_calls": [CHAT_CALL]}),
        (
            {"type": "function_call_output", "call_id": "call_1", "output": "42"},
            {"role": "tool", "tool_call_id": "call_1", "content": "42"},
        ),
        (
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"role": "assistant", "reasoning_content": "hm"},
        ),
    ],
)
def test_every_item_that_chat_knows_becomes_a_message(item: dict[str, Any], message: dict[str, Any]) -> None:
    assert messages([item]) == [message]


def test_what_the_model_did_in_one_turn_is_one_message() -> None:
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    said = {"type": "message", "role": "assistant", "content": "I look."}
    second = {**CALL, "call_id": "call_2"}
    answers = [{"type": "function_call_output", "call_id": one, "output": one} for one in ("call_1", "call_2")]

    found = messages([thought, said, CALL, second, *answers, said])

    assert [message["role"] for message in found] == ["assistant", "tool", "tool", "assistant"]
    assert (found[0]["reasoning_content"], found[0]["content"]) == ("hm", "I look.")
    assert [call["id"] for call in found[0]["tool_calls"]] == ["call_1", "call_2"]


def test_the_other_fields_are_said_in_chats_words() -> None:
    schema = {"type": "object"}
    tool = {"type": "function", "name": "look", "parameters": schema, "strict": True, "description": None}
    form = {"type": "json_schema", "name": "n", "schema": schema, "strict": True}
    request = read(
        max_output_tokens=9,
        reasoning={"effort": "low", "summary": "auto"},
        text={"format": form, "verbosity": "low"},
        tools=[tool],
        tool_choice={"type": "function", "name": "look"},
        include=["message.output_text.logprobs"],
        top_logprobs=3,
        stream=True,
        top_k=4,
    )

    found = chat(request)

    assert request.native_only is None
    assert {name: found[name] for name in found if name not in ("model", "messages")} == {
        "max_tokens": 9,
        "reasoning_effort": "low",
        "verbosity": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}},
        "tools": [{"type": "function", "function": {"name": "look", "parameters": schema, "strict": True}}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "logprobs": True,
        "top_logprobs": 3,
        "stream": True,
        "stream_options": {"include_usage": True},
        "top_k": 4,
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": "function", "name": "f", "defer_loading": True}]},
        {"tool_choice": {"type": "file_search"}},
        {"truncation": "auto"},
        {"prompt": {"id": "pmpt_1"}},
        {"reasoning": {"mode": "pro"}},
        {"input": [{"type": "web_search_call", "id": "ws_1"}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f", "detail": "auto"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://x"}]}]},
    ],
)
def test_what_no_chat_can_be_told_is_for_endpoints_of_this_dialect_alone(fields: dict[str, Any]) -> None:
    request = read(**fields)

    assert request.native_only is not None
    assert request.original is not None and request.original.dialect == "responses"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].id"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{**CALL, "arguments": None}]}, "input[0].arguments"),
        ({"temperature": 3}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
        ({"metadata": {"a": 1}}, "metadata[...]"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)

    assert caught.value.param == param


def test_jobs_in_the_background_are_refused_as_unsupported() -> None:
    with pytest.raises(UnsupportedCapability):
        read(background=True)


def test_a_stored_conversation_goes_before_the_input_for_chats_and_for_its_own_endpoints() -> None:
    history: list[dict[str, Any]] = [
        {"type": "message", "role": "user", "content": "one"},
        {"id": "rs_fp_1", "type": "reasoning", "summary": [], "encrypted_content": "fp1.W10="},
        {"id": "msg_fp_2", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "two"}]},
        {"id": "rs_9", "type": "reasoning", "summary": [], "encrypted_content": "theirs"},
    ]

    body = json.dumps({"model": "m", "input": "three", "previous_response_id": "resp_1"}).encode()
    request = parse_responses(body, history)

    assert request.original is not None
    sent = json.loads(bytes(request.original.fields["input"]))
    assert [message.get("content") for message in chat(request)["messages"]] == ["one", "two", "three"]
    assert [item.get("id") for item in sent] == [None, None, "rs_9", None]
    assert previous_id_of(body) == "resp_1"


def test_without_state_the_input_travels_as_it_came() -> None:
    body = b'{"model":"m",  "input": [ {"role":"user","content":"x","odd":1.0} ],"odd":  null}'

    original = parse_responses(body).original

    assert original is not None
    assert bytes(original.fields["input"]) == b'[ {"role":"user","content":"x","odd":1.0} ]'
