"""How much a body may hold, whatever its dialect: levels, turns, tools. Bytes and seconds are the floor's business."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.wire.chat_request import parse_chat
from gateway.wire.completions_request import CompletionsDialect
from gateway.wire.embeddings_request import parse_embeddings
from gateway.wire.json_body import MAX_DEPTH
from gateway.wire.messages_request import MessagesDialect
from gateway.wire.rerank_request import parse_rerank
from gateway.wire.responses_request import parse_responses

TURN = {"role": "user", "content": "x"}
TOOL = {"type": "function", "function": {"name": "f"}}
Parse = Callable[[bytes], Any]

BODIES: dict[str, tuple[Parse, dict[str, Any]]] = {
    "chat": (parse_chat, {"messages": [TURN]}),
    "completions": (CompletionsDialect().parse, {"prompt": "x"}),
    "responses": (parse_responses, {"input": "x"}),
    "messages": (MessagesDialect().parse, {"max_tokens": 1, "messages": [TURN]}),
    "count_tokens": (MessagesDialect().parse_count, {"messages": [TURN]}),
    "embeddings": (parse_embeddings, {"input": "x"}),
    "rerank": (parse_rerank, {"query": "x", "documents": ["x"]}),
}
TURNS = {"chat": "messages", "messages": "messages", "count_tokens": "messages", "responses": "input"}
TOOLS = {
    "chat": TOOL,
    "messages": {"name": "f", "input_schema": {"type": "object"}},
    "responses": {"type": "function", "name": "f", "parameters": {"type": "object"}},
}


def parsed(name: str, **fields: Any) -> Any:
    parse, body = BODIES[name]
    return parse(json.dumps({"model": "m"} | body | fields).encode())


def nested(levels: int) -> Any:
    return [nested(levels - 1)] if levels else 1


@pytest.mark.parametrize("name", BODIES)
def test_no_dialect_takes_more_than_64_levels(name: str) -> None:
    parsed(name, metadata_of_mine=nested(MAX_DEPTH - 1))

    with pytest.raises(InvalidRequest, match="nested more than 64 levels"):
        parsed(name, metadata_of_mine=nested(MAX_DEPTH))


@pytest.mark.parametrize("name", BODIES)
def test_endless_nesting_is_refused_before_anything_walks_it(name: str) -> None:
    parse, _ = BODIES[name]

    with pytest.raises(InvalidRequest, match="nested"):
        parse(b'{"model":"m","x":' + b'{"a":[' * 100_000)


def test_brackets_within_texts_are_no_levels() -> None:
    parsed("chat", messages=[{"role": "user", "content": "[" * 10_000 + '\\"{' * 1_000}])


@pytest.mark.parametrize(("name", "field"), TURNS.items())
def test_4096_turns_are_taken_and_one_more_is_not(name: str, field: str) -> None:
    parsed(name, **{field: [TURN] * 4096})

    with pytest.raises(InvalidRequest) as refused:
        parsed(name, **{field: [TURN] * 4097})

    assert refused.value.param == field


@pytest.mark.parametrize(("name", "tool"), TOOLS.items())
def test_1024_tools_are_taken_and_one_more_is_not(name: str, tool: dict[str, Any]) -> None:
    parsed(name, tools=[tool] * 1024)

    with pytest.raises(InvalidRequest) as refused:
        parsed(name, tools=[tool] * 1025)

    assert refused.value.param == "tools"
