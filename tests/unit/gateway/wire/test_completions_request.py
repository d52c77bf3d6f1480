"""OpenAI's older text completions: read as chats where a chat will do, and written back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.describe import describe
from gateway.errors import InvalidRequest
from gateway.wire.chat_request import ChatRequest
from gateway.wire.completions_request import CompletionsDialect
from gateway.wire.sse import DONE
from tests.unit.gateway.wire import chat_answers

DIALECT = CompletionsDialect()


def read(**fields: Any) -> ChatRequest:
    return DIALECT.parse(json.dumps({"model": "m", "prompt": "Once", **fields}).encode())


@pytest.mark.parametrize("prompt", ["Once", ["Once"]])
def test_a_prompt_is_what_the_user_says_and_all_else_travels_on(prompt: Any) -> None:
    request = read(prompt=prompt, temperature=0.5, stop=["."], n=2, odd=[1], echo=False, suffix="", best_of=2)

    assert request.native_only is None
    assert {name: json.loads(bytes(raw)) for name, raw in request.fields.items()} == {
        "model": "m",
        "messages": [{"role": "user", "content": "Once"}],
        "temperature": 0.5,
        "stop": ["."],
        "n": 2,
        "odd": [1],
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": ["a", "b"]},
        {"prompt": [1, 2, 3]},
        {"prompt": [[1, 2], [3]]},
        {"suffix": "end"},
        {"echo": True},
        {"logprobs": 0},
        {"best_of": 3},
    ],
)
def test_what_no_chat_can_be_told_is_for_endpoints_of_this_dialect_alone(fields: dict[str, Any]) -> None:
    request = read(**fields)

    name = next(iter(fields))
    assert request.native_only is not None and f"'{name}'" in request.native_only
    assert request.original is not None and name in request.original.fields


def test_token_ids_are_counted_as_tokens() -> None:
    assert 150 < describe(read(prompt=[5] * 200)).features.tokens < 300


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"logprobs": True}, "logprobs"),
        ({"temperature": 9}, "temperature"),
        ({"stream_options": {}}, "stream_options"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)

    assert caught.value.param == param


def test_a_whole_answer_is_a_text_completion_with_usage_and_cost() -> None:
    answer = json.loads(DIALECT.writer(read(), "req_1").whole(chat_answers.whole({"content": "upon"}, "length")))

    assert answer["object"] == "text_completion" and answer["id"].startswith("cmpl-")
    assert answer["choices"] == [{"text": "upon", "index": 0, "logprobs": None, "finish_reason": "length"}]
    assert (answer["usage"]["total_tokens"], answer["usage"]["cost"]) == (12, 0.25)


def test_a_stream_is_the_same_text_in_pieces_and_one_end_mark() -> None:
    writer = DIALECT.writer(read(stream=True), "req_1")

    frames = b"".join(map(writer.feed, chat_answers.chunks({"content": "upon a"}, 3))) + writer.end()

    chunks = [json.loads(text.removeprefix("data: ")) for text in frames.decode().split("\n\n")[:-2]]
    assert frames.endswith(DONE) and frames.count(DONE) == 1
    assert [one["choices"][0]["text"] for one in chunks[:-1]] == ["upo", "n a", ""]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["cost"] == 0.25
