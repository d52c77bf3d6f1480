"""OpenAI's older text completions through the gateway, with the official SDK."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from gateway.wire.sse import DONE, event
from tests.scripted_upstream import SSE, ScriptedUpstream
from tests.unit.gateway.wire import chat_answers

CHAT = "/plain/v1/chat/completions"
NATIVE = "/native/v1/completions"
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def piece(text: str, finish: str | None = None) -> bytes:
    choice = {"text": text, "index": 0, "logprobs": {"tokens": [text]}, "finish_reason": finish}
    return event(json.dumps({"id": "cmpl-1", "object": "text_completion", "odd": None, "choices": [choice]}).encode())


def test_a_prompt_is_answered_by_a_chat(sdk: Any, scripted: ScriptedUpstream) -> None:
    scripted.says(CHAT, chat_answers.whole({"role": "assistant", "content": " upon"}, "length"))

    answer = sdk.completions.create(model="plain", prompt="Once", max_tokens=3, temperature=0)

    assert (answer.choices[0].text, answer.choices[0].finish_reason) == (" upon", "length")
    assert answer.usage is not None and answer.usage.model_extra == {"cost": 17e-6, "upstream_cost": 0.25}
    assert json.loads(scripted.asked[-1].body) == {
        "model": "wire-plain",
        "messages": [{"role": "user", "content": "Once"}],
        "max_tokens": 3,
        "temperature": 0,
    }


@pytest.mark.parametrize("wanted", [True, False])
def test_a_stream_is_text_in_pieces_with_usage_for_those_who_ask(
    sdk: Any, scripted: ScriptedUpstream, wanted: bool
) -> None:
    scripted.says(CHAT, b"".join(chat_answers.chunks({"content": "upon a"}, 3)), SSE)

    chunks = list(
        sdk.completions.create(model="plain", prompt="Once", stream=True, stream_options={"include_usage": wanted})
    )

    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "upon a"
    assert [chunk.usage is not None for chunk in chunks].count(True) == int(wanted)
    assert json.loads(scripted.asked[-1].body)["stream_options"] == {"include_usage": True}


def test_an_endpoint_of_this_dialect_is_sent_what_the_client_wrote(
    http: httpx.Client, scripted: ScriptedUpstream
) -> None:
    scripted.says(NATIVE, json.dumps({"choices": [{"text": "x", "logprobs": None}], "usage": USAGE}).encode())
    body = b'{"model":"native","prompt":[[1, 2],[3]],"echo":true,"logprobs":0,"odd":1.0}'

    answer = http.post("/v1/completions", content=body)

    assert scripted.asked[-1].body == body.replace(b'"native"', b'"wire-native"')
    assert answer.json() == {"choices": [{"text": "x", "logprobs": None}], "usage": {**USAGE, "cost": 20e-6}}


def test_a_stream_of_this_dialect_passes_byte_for_byte(http: httpx.Client, scripted: ScriptedUpstream) -> None:
    usage = event(json.dumps({"choices": [], "usage": USAGE}).encode())
    scripted.says(NATIVE, piece("a") + piece("b", "stop") + usage + DONE, SSE)

    answer = http.post("/v1/completions", json={"model": "native", "prompt": "x", "stream": True})

    assert answer.content == piece("a") + piece("b", "stop") + DONE


@pytest.mark.parametrize("fields", [{"prompt": ["a", "b"]}, {"prompt": [1, 2]}, {"suffix": "x"}, {"echo": True}])
def test_what_cant_be_said_is_a_clear_refusal(
    http: httpx.Client, scripted: ScriptedUpstream, fields: dict[str, Any]
) -> None:
    scripted.says(CHAT, chat_answers.whole({"role": "assistant", "content": "x"}))

    answer = http.post("/v1/completions", json={"model": "plain", "prompt": "x", **fields})

    assert answer.status_code == 400 and f"'{next(iter(fields))}'" in answer.json()["error"]["message"]
    assert scripted.asked == []


def test_a_stream_that_breaks_makes_the_sdk_raise(sdk: Any, scripted: ScriptedUpstream) -> None:
    scripted.says(CHAT, b"".join(chat_answers.chunks({"content": "upon a"}, 3)[:3]), SSE)

    with pytest.raises(openai.APIError):
        for _ in sdk.completions.create(model="plain", prompt="x", stream=True):
            pass
