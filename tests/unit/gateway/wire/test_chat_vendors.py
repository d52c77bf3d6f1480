"""A request is changed for a vendor's endpoint only where that would refuse it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.wire.chat_request import ChatRequest, parse_chat
from gateway.wire.chat_turns_to_gemini import FOREIGN_SIGNATURE
from gateway.wire.chat_vendors import suited

OPENAI, GOOGLE = "https://api.openai.com/v1", "https://generativelanguage.googleapis.com/v1beta/openai"
ELSEWHERE = "https://api.example.org/v1"
SIGNED = {"google": {"thought_signature": "s1"}}


def request(*messages: dict[str, Any], **fields: Any) -> ChatRequest:
    said = [{"role": "user", "content": "x"}, *messages]
    return parse_chat(json.dumps({"model": "m", "messages": said} | fields).encode())


def calling(**extra: Any) -> dict[str, Any]:
    function = {"name": "f", "arguments": '{"a":1e2}'}
    calls = [{"id": "c1", "type": "function", "function": function, **extra}]
    return {"role": "assistant", "content": None, "tool_calls": [*calls, {**calls[0], "id": "c2"}]}


def sent(asked: ChatRequest, base_url: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(suited(asked, base_url).wire_body("w"))
    return body


@pytest.mark.parametrize(("url", "name"), [(OPENAI, "max_completion_tokens"), (ELSEWHERE, "max_tokens")])
def test_a_bound_that_a_budget_sets_bears_the_name_that_the_vendor_knows(url: str, name: str) -> None:
    body = sent(replace(request(), cap_tokens=70), url)

    assert {field: body[field] for field in body if field.startswith("max_")} == {name: 70}


def test_the_callers_own_bound_keeps_its_name() -> None:
    body = sent(replace(request(max_tokens=90), cap_tokens=70), OPENAI)

    assert body["max_tokens"] == 70 and "max_completion_tokens" not in body


def test_a_call_that_another_model_has_made_is_marked_for_google_once_a_turn() -> None:
    first, second = sent(request(calling()), GOOGLE)["messages"][1]["tool_calls"]

    assert first["extra_content"]["google"]["thought_signature"] == FOREIGN_SIGNATURE
    assert "extra_content" not in second and first["function"]["arguments"] == '{"a":1e2}'


@pytest.mark.parametrize(("url", "extra"), [(GOOGLE, {"extra_content": SIGNED}), (ELSEWHERE, {})])
def test_a_call_with_its_own_signature_or_to_another_vendor_is_left_alone(url: str, extra: dict[str, Any]) -> None:
    asked = request(calling(**extra))

    assert suited(asked, url) is asked
