"""Anthropic's answers as chat: what is unusual but legal, and what is broken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import UpstreamBroken
from gateway.wire.messages_reader import EventReader, completion_of
from gateway.wire.sse import DONE, payload_of


def chunks(*events: dict[str, Any]) -> list[Any]:
    reader = EventReader()
    frames = b"".join(reader.read(json.dumps(one).encode()) for one in events)
    return [json.loads(payload_of(text)) for text in frames.removesuffix(DONE).split(b"\n\n")[:-1]]


def block(kind: str, *deltas: dict[str, Any], **rest: Any) -> list[dict[str, Any]]:
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": kind, **rest}}
    said = [{"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas]
    return [start, *said, {"type": "content_block_stop", "index": 0}]


def test_a_call_without_arguments_is_given_an_empty_object() -> None:
    found = chunks(*block("tool_use", {"type": "input_json_delta", "partial_json": ""}, id="t", name="f", input={}))

    calls = [one["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"] for one in found]
    assert "".join(calls) == "{}"


def test_thoughts_are_shown_and_then_repeated_with_their_signature() -> None:
    said = {"type": "thinking_delta", "thinking": "hm"}
    found = chunks(*block("thinking", said, {"type": "signature_delta", "signature": "s"}, thinking="", signature=""))

    deltas = [one["choices"][0]["delta"] for one in found]
    assert deltas == [
        {"reasoning_content": "hm"},
        {"thinking_blocks": [{"index": 0, "type": "thinking", "thinking": "hm", "signature": "s"}]},
    ]


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("pause_turn", "stop"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        (None, "stop"),
    ],
)
def test_reasons_have_openais_names(reason: str, finish: str) -> None:
    found = json.loads(completion_of(json.dumps({"content": [], "stop_reason": reason}).encode()))

    assert found["choices"][0]["finish_reason"] == finish


def test_usage_is_counted_as_openai_counts() -> None:
    creation = {"ephemeral_1h_input_tokens": 3, "ephemeral_5m_input_tokens": 2}
    usage = {"input_tokens": 10, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 20, "output_tokens": 7}
    details = {"cache_creation": creation, "output_tokens_details": {"thinking_tokens": 4}}

    found = json.loads(completion_of(json.dumps({"content": [], "usage": usage | details}).encode()))["usage"]

    assert (found["prompt_tokens"], found["completion_tokens"], found["total_tokens"]) == (35, 7, 42)
    assert found["prompt_tokens_details"] == {
        "cached_tokens": 20,
        "cache_write_tokens": 5,
        "cache_write_long_tokens": 3,
    }
    assert found["completion_tokens_details"] == {"reasoning_tokens": 4}


def test_events_of_later_versions_are_passed_over() -> None:
    strange = {"type": "content_block_delta", "index": 0, "delta": {"type": "new_delta", "new": 1}}

    assert chunks({"type": "new_event", "delta": "x"}, {"type": "ping"}, strange) == []


@pytest.mark.parametrize("payload", [b"oops", b'{"type":"message_delta","delta":1}', b"[]"])
def test_what_is_no_event_breaks_the_stream(payload: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        EventReader().read(payload)
