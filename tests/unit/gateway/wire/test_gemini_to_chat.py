"""Gemini's answers as chat answers, whole and in chunks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import UpstreamBroken, UpstreamError
from gateway.wire.chat_reply import read_events
from gateway.wire.gemini_to_chat import ChatFromGemini, UsageMetadata, usage_of
from gateway.wire.sse import DONE
from tests.unit.gateway.wire import chat_answers

USAGE = {"promptTokenCount": 7, "candidatesTokenCount": 3, "thoughtsTokenCount": 2, "totalTokenCount": 12}


def answer(parts: list[dict[str, Any]], finish: str | None = "STOP", **fields: Any) -> bytes:
    candidate = {"content": {"role": "model", "parts": parts}, "index": 0, **fields}
    if finish:
        candidate["finishReason"] = finish
    head = {"modelVersion": "gemini-4-argon", "responseId": "r1"}
    return json.dumps({"candidates": [candidate], "usageMetadata": USAGE, **head}).encode()


def whole(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ChatFromGemini("w").whole(body))
    return found


def call(name: str, **fields: Any) -> dict[str, Any]:
    return {"functionCall": {"name": name, "args": {"a": 1.50}, **fields}}


def test_text_thoughts_and_usage_are_where_chat_has_them() -> None:
    found = whole(answer([{"text": "hm", "thought": True}, {"text": "h"}, {"text": "i", "thoughtSignature": "c2ln"}]))

    assert found["choices"][0]["message"] == {
        "role": "assistant",
        "content": "hi",
        "refusal": None,
        "reasoning_content": "hm",
        "extra_content": {"google": {"thought_signature": "c2ln"}},
    }
    assert (found["model"], found["id"]) == ("gemini-4-argon", "chatcmpl-r1")
    assert found["usage"]["completion_tokens"] == 5
    assert found["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}


def test_parallel_calls_have_ids_that_stay_the_same() -> None:
    body = answer([call("look"), call("look"), call("see", id="given")])

    first, again = (whole(body)["choices"][0] for _ in range(2))

    ids = [one["id"] for one in first["message"]["tool_calls"]]
    assert first["finish_reason"] == "tool_calls"
    assert ids == [one["id"] for one in again["message"]["tool_calls"]]
    assert len(set(ids)) == 3 and ids[2] == "given"
    assert first["message"]["tool_calls"][0]["function"]["arguments"] == '{"a": 1.5}'


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("PROHIBITED_CONTENT", "content_filter")],
)
def test_an_answer_that_was_cut_short_says_why(reason: str, finish: str) -> None:
    assert whole(answer([{"text": "x"}], reason))["choices"][0]["finish_reason"] == finish


def test_a_blocked_prompt_is_an_answer_that_a_filter_ended() -> None:
    body = b'{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":7}}'

    found = whole(body)

    assert found["choices"][0]["finish_reason"] == "content_filter"
    assert found["choices"][0]["message"]["content"] is None


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "OTHER", "SOMETHING_NEW"])
def test_a_model_that_failed_is_a_failure_of_the_upstream(reason: str) -> None:
    with pytest.raises(UpstreamError, match=reason):
        whole(answer([], reason))


@pytest.mark.parametrize("body", [b"[]", b"{}", b"<html>", b'{"candidates":[{"content":7}]}'])
def test_what_is_no_answer_is_a_broken_upstream(body: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        whole(body)


def test_a_stream_that_was_cut_off_is_a_broken_upstream() -> None:
    writer = ChatFromGemini("w")
    writer.chunk(answer([{"text": "x"}], None))

    with pytest.raises(UpstreamBroken):
        writer.end()


def test_log_probabilities_are_in_openais_form() -> None:
    chosen = {"chosenCandidates": [{"token": "hi", "logProbability": -0.5}]}
    rivals = {"topCandidates": [{"candidates": [{"token": "ho", "logProbability": -1}]}]}

    logprobs = whole(answer([{"text": "hi"}], logprobsResult=chosen | rivals))["choices"][0]["logprobs"]

    rival = {"token": "ho", "logprob": -1, "bytes": [104, 111]}
    assert logprobs["content"] == [{"token": "hi", "logprob": -0.5, "bytes": [104, 105], "top_logprobs": [rival]}]


def test_tools_and_sound_are_counted() -> None:
    counts = UsageMetadata(prompt_token_count=5, tool_use_prompt_token_count=4, cached_content_token_count=2)

    usage = usage_of(counts)

    assert (usage["prompt_tokens"], usage["prompt_tokens_details"]) == (9, {"cached_tokens": 2})


@settings(deadline=None)
@given(st.lists(chat_answers.texts | st.sampled_from(["look", "see"]).map(call), min_size=1, max_size=5))
def test_a_stream_says_what_the_whole_answer_says(said: list[Any]) -> None:
    parts = [{"text": one} if isinstance(one, str) else one for one in said]
    writer, last = ChatFromGemini("w"), len(parts) - 1

    frames = b"".join(
        writer.chunk(answer([part], "STOP" if place == last else None)) for place, part in enumerate(parts)
    )
    chunks = [one for one in read_events(frames + writer.end()) if one is not None]

    expected = whole(answer(parts))["choices"][0]
    choices = [choice for chunk in chunks for choice in chunk.choices or ()]
    assert "".join(one.said.text for one in choices) == (expected["message"]["content"] or "")
    calls = [one for choice in choices for one in choice.said.tool_calls or ()]
    assert [one.id for one in calls] == [one["id"] for one in expected["message"].get("tool_calls", ())]
    assert [one.finish_reason for one in choices if one.finish_reason] == [expected["finish_reason"]]
    assert frames.count(DONE) == 0 and chunks[-1].usage == whole(answer(parts))["usage"]
