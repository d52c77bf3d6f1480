"""Chats and responses answered by an endpoint that speaks Gemini's own API."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from tests.integration.dialects.conftest import SECRET
from tests.scripted_upstream import SSE, ScriptedUpstream

WHOLE = "/gem/v1beta/models/wire-gem:generateContent"
STREAM = "/gem/v1beta/models/wire-gem:streamGenerateContent?alt=sse"
USAGE = {"promptTokenCount": 10, "candidatesTokenCount": 3, "thoughtsTokenCount": 2, "cachedContentTokenCount": 4}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def answer(parts: list[dict[str, Any]], finish: str | None = "STOP") -> bytes:
    candidate = {"content": {"role": "model", "parts": parts}} | ({"finishReason": finish} if finish else {})
    head = {"modelVersion": "gem-001", "responseId": "r1"}
    return json.dumps({"candidates": [candidate], "usageMetadata": USAGE, **head}, indent=1).encode()


def pieces(*parts: dict[str, Any]) -> bytes:
    last = len(parts) - 1
    found = [json.loads(answer([part], "STOP" if place == last else None)) for place, part in enumerate(parts)]
    return b"".join(b"data: " + json.dumps(one).encode() + b"\r\n\r\n" for one in found)


def test_a_chat_is_asked_and_answered_in_googles_words(sdk: Any, scripted: ScriptedUpstream) -> None:
    scripted.says(WHOLE, answer([{"text": "hi"}]))
    system = {"role": "system", "content": "Be brief."}

    reply = sdk.chat.completions.create(
        model="gem",
        messages=[system, {"role": "user", "content": "x"}],
        temperature=0.5,
        max_tokens=9,
    )

    assert (reply.choices[0].message.content, reply.model) == ("hi", "gem-001")
    assert reply.usage is not None and reply.usage.completion_tokens == 5
    assert scripted.asked[-1].headers["x-goog-api-key"] == SECRET and "authorization" not in scripted.asked[-1].headers
    assert json.loads(scripted.asked[-1].body) == {
        "contents": [{"role": "user", "parts": [{"text": "x"}]}],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "generationConfig": {"temperature": 0.5, "maxOutputTokens": 9},
    }


def test_a_stream_with_thoughts_and_parallel_calls(sdk: Any, scripted: ScriptedUpstream) -> None:
    call = {"functionCall": {"name": "look", "args": {"a": 1}}, "thoughtSignature": "c2ln"}
    scripted.says(STREAM, pieces({"text": "hm", "thought": True}, {"text": "I look."}, call, call), SSE)

    chunks = list(
        sdk.chat.completions.create(
            model="gem",
            messages=[{"role": "user", "content": "x"}],
            tools=[TOOL],
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    calls = [one for delta in deltas for one in delta.tool_calls or ()]
    assert "".join(delta.content or "" for delta in deltas) == "I look."
    assert [one.index for one in calls] == [0, 1] and calls[0].id != calls[1].id
    assert calls[0].model_extra == {"extra_content": {"google": {"thought_signature": "c2ln"}}}
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "tool_calls"
    assert chunks[-1].usage is not None and chunks[-1].usage.model_extra is not None


def test_a_signature_comes_back_through_responses(sdk: Any, scripted: ScriptedUpstream) -> None:
    call = {"functionCall": {"name": "look", "args": {"a": 1}, "id": "g1"}, "thoughtSignature": "c2ln"}
    scripted.says(WHOLE, answer([call]))
    first = sdk.responses.create(model="gem", input="x")
    result = {"type": "function_call_output", "call_id": "g1", "output": "42"}

    sdk.responses.create(model="gem", input=[result], previous_response_id=first.id)

    contents = json.loads(scripted.asked[-1].body)["contents"]
    assert contents[1:] == [
        {"role": "model", "parts": [call]},
        {
            "role": "user",
            "parts": [{"functionResponse": {"id": "g1", "name": "look", "response": {"output": "42"}}}],
        },
    ]


def test_what_gemini_cant_be_told_is_a_clear_refusal(http: httpx.Client, scripted: ScriptedUpstream) -> None:
    scripted.says(WHOLE, answer([{"text": "hi"}]))
    messages = [{"role": "user", "content": "x"}]

    reply = http.post("/v1/chat/completions", json={"model": "gem", "messages": messages, "logit_bias": {"1": 1}})

    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "logit_bias")
    assert scripted.asked == []


@pytest.mark.parametrize("script", [pieces({"text": "a"})[:-8], b'data: {"error":{"code":503,"message":"busy"}}\n\n'])
def test_a_stream_that_breaks_makes_the_sdk_raise(sdk: Any, scripted: ScriptedUpstream, script: bytes) -> None:
    begun = b"data: " + json.dumps(json.loads(answer([{"text": "hi"}], None))).encode() + b"\n\n"
    scripted.says(STREAM, begun + script, SSE)
    messages = [{"role": "user", "content": "x"}]

    with pytest.raises(openai.APIError):
        for _ in sdk.chat.completions.create(model="gem", messages=messages, stream=True):
            pass


def test_a_refusal_of_google_reaches_the_client_without_our_key(sdk: Any, scripted: ScriptedUpstream) -> None:
    refusal = {"error": {"code": 400, "message": f"bad {SECRET}", "status": "INVALID_ARGUMENT"}}
    scripted.says(WHOLE, json.dumps(refusal).encode(), status=400)

    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model="gem", messages=[{"role": "user", "content": "x"}])

    assert SECRET not in str(caught.value) and "bad" in str(caught.value)
