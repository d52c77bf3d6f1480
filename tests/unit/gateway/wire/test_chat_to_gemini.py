"""Chat requests in Gemini's words: what both can say comes back the same, what Gemini can't say is named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import InvalidRequest, UnsupportedCapability
from gateway.wire.chat_request import parse_chat
from gateway.wire.chat_to_gemini import gemini_body, thinks_by_level
from gateway.wire.chat_turns_to_gemini import FOREIGN_SIGNATURE
from tests.unit.gateway.wire import chat_answers
from tests.unit.gateway.wire.gemini_inverse import chat_of

CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
SAID = [{"role": "user", "content": "x"}]


def body_of(fields: dict[str, Any], model: str = "gemini-4-argon") -> dict[str, Any]:
    request = parse_chat(json.dumps({"model": "m", "messages": SAID, **fields}).encode())
    found: dict[str, Any] = json.loads(gemini_body(request, model))
    return found


def media() -> st.SearchStrategy[dict[str, Any]]:
    return st.sampled_from(
        [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,QUJD"}},
            {"type": "text", "text": "look"},
        ]
    )


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(chat_answers.texts)})
    content = chat_answers.texts | st.lists(media(), min_size=2, max_size=3)
    messages.append({"role": "user", "content": draw(content)})
    for turn in range(draw(st.integers(0, 2))):
        said = draw(chat_answers.messages().filter(lambda one: "reasoning_content" not in one and "refusal" not in one))
        calls = [call | {"id": f"call_{turn}_{place}"} for place, call in enumerate(said.get("tool_calls", ()))]
        messages.append({**said, **({"tool_calls": calls} if calls else {})})
        failed = draw(st.sampled_from([{}, {"is_error": True}])) if calls else {}
        results = [{"role": "tool", "tool_call_id": one["id"], "content": draw(chat_answers.texts)} for one in calls]
        messages += [one | failed for one in results] or [{"role": "user", "content": draw(content)}]
    return messages


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """What both dialects can say."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    strict = draw(st.booleans())
    function = {"name": "look", "parameters": schema} | ({"strict": True} if strict else {})
    forms = [{"type": "json_object"}, {"type": "json_schema", "json_schema": {"schema": schema}}]
    choices: list[Any] = ["none", "required", {"type": "function", "function": {"name": "look"}}]
    tools = {
        "tools": st.just([{"type": "function", "function": function}]),
        **({} if strict else {"tool_choice": st.sampled_from(choices)}),
    }
    optional: dict[str, st.SearchStrategy[Any]] = {
        "temperature": st.sampled_from([0, 0.5, 2]),
        "top_p": st.sampled_from([0.1, 1]),
        "top_k": st.integers(1, 40),
        "max_tokens": st.integers(1, 999),
        "stop": st.lists(chat_answers.texts, min_size=1, max_size=2),
        "seed": st.integers(0, 99),
        "presence_penalty": st.sampled_from([-1, 0.5]),
        "frequency_penalty": st.sampled_from([-1, 0.5]),
        "n": st.integers(1, 4),
        "response_format": st.sampled_from(forms),
        "reasoning_effort": st.sampled_from(["minimal", "low", "medium", "high"]),
    }
    fields = draw(st.fixed_dictionaries({"messages": conversations()}, optional=optional))
    used = draw(st.sampled_from([[], ["tools"], list(tools)]))
    fields |= {name: draw(tools[name]) for name in used}
    return fields | draw(st.sampled_from([{}, {"logprobs": True, "top_logprobs": 2}]))


@settings(deadline=None)
@given(requests())
def test_what_both_can_say_comes_back_the_same(fields: dict[str, Any]) -> None:
    assert chat_of(body_of(fields)) == fields


def test_a_conversation_with_tools_is_in_googles_words() -> None:
    signed = {**CALL, "id": "call_2", "extra_content": {"google": {"thought_signature": "c2ln"}}}
    answers = [{"role": "tool", "tool_call_id": one, "content": "42"} for one in ("call_1", "call_2")]
    messages = [*SAID, {"role": "assistant", "content": None, "tool_calls": [CALL, signed]}, *answers, *SAID]

    body = body_of({"messages": messages, "tools": [TOOL], "tool_choice": "required"})

    call = {"name": "look", "args": {"a": 1}}
    result = {"name": "look", "response": {"output": "42"}}
    assert body["contents"][1:] == [
        {
            "role": "model",
            "parts": [
                {"functionCall": {"id": "call_1"} | call, "thoughtSignature": FOREIGN_SIGNATURE},
                {"functionCall": {"id": "call_2"} | call, "thoughtSignature": "c2ln"},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "call_1"} | result},
                {"functionResponse": {"id": "call_2"} | result},
                {"text": "x"},
            ],
        },
    ]
    assert body["tools"] == [{"functionDeclarations": [{"name": "look", "parametersJsonSchema": {"type": "object"}}]}]
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "low", {"thinkingBudget": 1024, "includeThoughts": True}),
        ("gemini-4-argon", "low", {"thinkingLevel": "LOW", "includeThoughts": True}),
        ("models/gemini-3.8-flash", "max", {"thinkingLevel": "HIGH", "includeThoughts": True}),
    ],
)
def test_effort_is_a_budget_or_a_level_by_the_models_age(model: str, effort: str, expected: dict[str, Any]) -> None:
    assert body_of({"reasoning_effort": effort}, model)["generationConfig"] == {"thinkingConfig": expected}


def test_older_models_are_asked_without_signatures() -> None:
    messages = [*SAID, {"role": "assistant", "tool_calls": [CALL]}]

    body = body_of({"messages": messages}, "gemini-2.5-flash")

    assert not thinks_by_level("gemini-2.5-flash")
    assert "thoughtSignature" not in body["contents"][1]["parts"][0]


def test_a_hard_budgets_bound_lowers_the_callers_own() -> None:
    request = parse_chat(json.dumps({"model": "m", "messages": SAID, "max_completion_tokens": 90}).encode())

    capped = json.loads(gemini_body(replace(request, cap_tokens=7), "gemini-4-argon"))

    assert capped["generationConfig"]["maxOutputTokens"] == 7


def test_what_changes_nothing_and_what_is_empty_is_passed_over() -> None:
    harmless = {"user": "u", "metadata": {}, "logit_bias": {}, "parallel_tool_calls": True, "service_tier": None}

    assert body_of({**harmless, "stream_options": None, "models": ["m"]}) == body_of({})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"reasoning_effort": "none"}, "reasoning_effort"),
        ({"min_p": 0.5}, "min_p"),
        ({"odd": 1}, "odd"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0]"),
        ({"messages": [{"role": "user", "content": "x", "name": "ann"}]}, "messages[0].name"),
        ({"messages": [{"role": "function", "content": "x", "name": "f"}]}, "messages[0].name"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0]"),
        ({"extra_body": {"google": {"cached_content": "c"}}}, "extra_body.google.cached_content"),
    ],
)
def test_what_gemini_cant_be_told_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedCapability) as caught:
        body_of(fields)

    assert caught.value.param == param


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "tool", "tool_call_id": "call_9", "content": "x"}, "messages[1].tool_call_id"),
        (
            {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "[1]"}}]},
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:nonsense"}}]},
            "messages[1].content[0].image_url.url",
        ),
    ],
)
def test_what_is_wrong_is_named(message: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        body_of({"messages": [*SAID, message]})

    assert caught.value.param == param
