"""Requests of Anthropic's API: what is malformed is named, what chat can't say is noted, the rest is said plainly."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import BudgetExceeded, GatewayError, InvalidRequest, Overloaded, RateLimited
from gateway.wire.chat_plain import plain
from gateway.wire.chat_request import ChatRequest
from gateway.wire.messages_request import MessagesDialect

DIALECT = MessagesDialect()
HELLO = [{"role": "user", "content": "hi"}]
CALLED = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}}]}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}


def parse(**fields: Any) -> ChatRequest:
    asked = {"model": "m", "max_tokens": 9, "messages": HELLO} | fields
    return DIALECT.parse(json.dumps({name: value for name, value in asked.items() if value is not ...}).encode())


def said(request: ChatRequest) -> Any:
    return json.loads(plain(request).wire_body("w"))


def user(*blocks: Any) -> list[Any]:
    return [{"role": "user", "content": list(blocks)}]


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": ...}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": user({"text": "x"})}, "messages[0].content[0].type"),
    ({"messages": user({"type": "text"})}, "messages[0].content[0].text"),
    ({"messages": user({"type": "text", "text": 1})}, "messages[0].content[0].text"),
    ({"messages": user({"type": "image", "source": 1})}, "messages[0].content[0].source"),
    ({"messages": user({"type": "image", "source": {"type": "url"}})}, "messages[0].content[0].source.url"),
    ({"messages": user({"type": "tool_result"})}, "messages[0].content[0].tool_use_id"),
    ({"messages": user({"type": "tool_result", "tool_use_id": "t", "content": [1]})}, "messages[0].content[0].content"),
    ({"messages": user({"type": "tool_result", "tool_use_id": "t", "is_error": 1})}, "messages[0].content[0].is_error"),
    ({"messages": [{"role": "assistant", "content": [{"type": "thinking", "thinking": ""}]}]}, "signature"),
    ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f"}]}]}, ".input"),
    ({"system": [{"type": "text"}]}, "system[0].text"),
    ({"system": 1}, "system"),
    ({"temperature": 1.5}, "temperature"),
    ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
    ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
    ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
    ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
    ({"service_tier": "gold"}, "service_tier"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    ({"metadata": {"user_id": 7}}, "metadata.user_id"),
]


@pytest.mark.parametrize(("fields", "named"), MALFORMED)
def test_what_is_malformed_is_named_by_its_place(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**fields)

    assert named in (caught.value.param or "")
    assert (caught.value.param or "") in caught.value.message


NATIVE_ONLY: list[tuple[dict[str, Any], str]] = [
    ({"tools": [{"type": "web_search_20260318", "name": "web_search"}]}, "'tools[0]' (web_search_20260318)"),
    ({"tools": [{"name": "f", "input_schema": {}, "defer_loading": True}]}, "'tools[0].defer_loading'"),
    ({"tools": [{"name": "f", "input_schema": {}, "input_examples": [{}]}]}, "'tools[0].input_examples'"),
    ({"container": "c"}, "'container'"),
    ({"mcp_servers": [{}]}, "'mcp_servers'"),
    ({"inference_geo": "us"}, "'inference_geo'"),
    ({"speed": "fast"}, "'speed'"),
    ({"max_tokens": 0}, "'max_tokens'"),
    ({"thinking": {"type": "between_tools"}}, "'thinking.type'"),
    ({"output_config": {"task_budget": {}}}, "'output_config.task_budget'"),
    ({"messages": user({"type": "search_result", "source": "s"})}, "'messages[0].content[0]' (search_result)"),
    ({"messages": user({"type": "container_upload", "file_id": "f"})}, "(container_upload)"),
    ({"messages": user({"type": "image", "source": {"type": "file", "file_id": "f"}})}, "source' (file)"),
    ({"messages": user({"type": "document", "source": {"type": "url", "url": "u"}})}, "source' (url)"),
    ({"messages": user({"type": "text", "text": "x", "citations": [{}]})}, "citations'"),
    ({"messages": user({**PNG, "transformations": {"oversized_image": "error"}})}, "transformations'"),
    ({"messages": [*HELLO, {"role": "assistant", "content": "It is ("}]}, "'messages[1]'"),
    ({"messages": [{**HELLO[0], "output_config": {}}]}, "'messages[0].output_config'"),
]


@pytest.mark.parametrize(("fields", "named"), NATIVE_ONLY)
def test_what_only_anthropic_understands_is_noted_and_kept(fields: dict[str, Any], named: str) -> None:
    request = parse(**fields)

    assert named in (request.native_only or "")
    assert request.original is not None
    (name, value), *_ = fields.items()
    assert json.loads(bytes(request.original.fields[name])) == value


def test_defaults_that_say_nothing_are_no_reason_to_refuse() -> None:
    blocks = user({"type": "text", "text": "x", "citations": None, "cache_control": None})
    tool = {"type": "custom", "name": "f", "input_schema": {}, "strict": False, "allowed_callers": ["direct"]}

    request = parse(messages=blocks, tools=[tool], speed="standard", container=None, thinking={"type": "disabled"})

    assert request.native_only is None


def test_endpoints_of_chat_are_sent_no_word_that_openai_does_not_know() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    answer = {"role": "assistant", "content": [thought, {"type": "text", "text": "a"}, *CALLED["content"]]}
    result = {"type": "tool_result", "tool_use_id": "t", "content": "no", "is_error": True, **mark}
    tool = {"name": "f", "input_schema": {}, "eager_input_streaming": True, **mark}

    request = parse(
        system=[{"type": "text", "text": "s", **mark}],
        messages=[*HELLO, answer, {"role": "user", "content": [result]}],
        tools=[tool],
        thinking={"type": "enabled", "budget_tokens": 4000},
        **mark,
    )
    sent = said(request)

    assert sent["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": "a",
            "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}],
        },
        {"role": "tool", "tool_call_id": "t", "content": "Error: no"},
    ]
    assert sent["tools"] == [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert sent["reasoning_effort"] == "medium"
    assert sent.keys() == {"model", "messages", "max_tokens", "tools", "reasoning_effort"}


def test_images_of_tool_results_follow_all_results_as_a_users_message() -> None:
    results = [
        {"type": "tool_result", "tool_use_id": "t", "content": [PNG]},
        {"type": "tool_result", "tool_use_id": "u", "content": [{"type": "text", "text": "2"}]},
    ]

    sent = said(
        parse(messages=[*HELLO, CALLED, {"role": "user", "content": [*results, {"type": "text", "text": "go"}]}])
    )

    tool, other, shown, asked = sent["messages"][2:]
    assert (tool["role"], other["content"]) == ("tool", "2")
    assert isinstance(tool["content"], str)
    assert shown == {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}],
    }
    assert asked == {"role": "user", "content": "go"}


def test_a_stream_asks_for_usage_and_a_bound_has_the_name_its_vendor_knows() -> None:
    request = parse(stream=True)

    elsewhere, at_openai = said(request), json.loads(plain(request, "https://api.openai.com/v1").wire_body("w"))

    assert elsewhere["stream_options"] == {"include_usage": True}
    assert (elsewhere["max_tokens"], at_openai["max_completion_tokens"]) == (9, 9)
    assert "max_tokens" not in at_openai


def test_a_system_message_in_the_middle_stays_there() -> None:
    middle = {"role": "system", "content": [{"type": "text", "text": "be brief"}]}

    request = parse(messages=[*HELLO, middle])

    assert [one["role"] for one in said(request)["messages"]] == ["user", "system"]
    assert request.native_only is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("x"), "invalid_request_error"),
        (BudgetExceeded("x"), "billing_error"),
        (RateLimited("x"), "rate_limit_error"),
        (Overloaded("x"), "overloaded_error"),
        (GatewayError("x"), "api_error"),
    ],
)
def test_errors_have_anthropics_shape(error: GatewayError, kind: str) -> None:
    body = json.loads(DIALECT.error_body(error, "req_1"))
    event = DIALECT.error_event(error, "req_1")

    assert (body["type"], body["error"]["type"], body["error"]["message"]) == ("error", kind, "x")
    assert body["request_id"] == "req_1"
    assert event == b"event: error\ndata: " + DIALECT.error_body(error, "req_1") + b"\n\n"
