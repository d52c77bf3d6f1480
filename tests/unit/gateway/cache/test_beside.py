"""Requests of other dialects are one with the chat that says the same, and never with one that says less."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from gateway.cache.eligibility import VOLATILE_TTL_S
from gateway.cache.identity import Identity, identify
from gateway.wire.chat_request import ChatRequest, parse_chat
from gateway.wire.completions_request import CompletionsDialect
from gateway.wire.messages_request import MessagesDialect
from gateway.wire.responses_request import parse_responses
from policies.schema import CacheMode
from tests.unit.gateway.cache.bodies import SCOPE

CHAT = {"model": "m", "messages": [{"role": "user", "content": "a"}], "max_tokens": 9}
MESSAGES = {"model": "m", "messages": [{"role": "user", "content": "a"}], "max_tokens": 9}
RESPONSES = {"model": "m", "input": "a", "max_output_tokens": 9}


def chat(**fields: Any) -> Identity:
    return identify(parse_chat(msgspec.json.encode({**CHAT, **fields})), SCOPE)


def messages_request(**fields: Any) -> ChatRequest:
    return MessagesDialect().parse(msgspec.json.encode({**MESSAGES, **fields}))


def messages(**fields: Any) -> Identity:
    return identify(messages_request(**fields), SCOPE)


def responses(**fields: Any) -> Identity:
    return identify(parse_responses(msgspec.json.encode({**RESPONSES, **fields})), SCOPE)


def test_the_same_question_is_one_in_three_dialects() -> None:
    assert chat() == messages() == responses()


def test_marks_for_a_vendors_prompt_cache_are_nothing() -> None:
    marked = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]

    assert messages(messages=[{"role": "user", "content": marked}]) == messages()


def test_what_is_said_of_the_cache_itself_is_no_part_of_the_question() -> None:
    assert messages(cache={"mode": "exact"}) == responses(cache={"mode": "exact"}) == chat(cache={}) == chat()


def test_what_responses_say_in_their_own_way_is_one_with_chats() -> None:
    said = {"reasoning": {"effort": "low"}, "text": {"verbosity": "low"}, "truncation": "disabled", "store": False}

    assert responses(**said) == chat(reasoning_effort="low", verbosity="low")


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning": {"summary": "auto"}},
        {"include": ["reasoning.encrypted_content"]},
        {"text": {"unheard_of": 1}},
        {"truncation": "auto"},
        {"max_tool_calls": 1},
        {"input": [{"role": "user", "content": "a", "unheard_of": 1}]},
        {"input": [{"type": "reasoning", "encrypted_content": "x"}, {"role": "user", "content": "a"}]},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "a", "unheard_of": 1}]}]},
        {"tools": [{"type": "web_search"}]},
    ],
    ids=str,
)
def test_what_only_responses_can_say_is_told_apart(fields: dict[str, Any]) -> None:
    assert responses(**fields).partition != responses().partition


def test_a_plain_item_is_its_text() -> None:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}], "id": "msg_1"}

    assert responses(input=[item]) == responses()


def test_what_only_messages_can_say_is_told_apart_and_exact() -> None:
    found = messages(unheard_of=1)

    assert found.partition != messages().partition
    assert found.allowed.mode is CacheMode.EXACT
    assert "more than the chat form" in found.allowed.reason


def test_a_vendors_own_search_makes_an_answer_short_lived() -> None:
    found = messages(tools=[{"type": "web_search_20250305", "name": "web_search"}])

    assert found.allowed.ttl_s == VOLATILE_TTL_S


def test_headers_of_a_dialect_are_part_of_the_request() -> None:
    asked = messages_request()
    assert asked.original is not None
    marked = replace(asked, original=replace(asked.original, headers=(("anthropic-beta", "x"),)))

    assert identify(marked, SCOPE).partition != messages().partition


def test_a_text_completion_is_not_a_chat() -> None:
    def completion(prompt: Any) -> Identity:
        asked = msgspec.json.encode({"model": "m", "prompt": prompt, "max_tokens": 9})
        return identify(CompletionsDialect().parse(asked), SCOPE)

    assert completion("a").partition != chat().partition
    assert completion("a") == completion("a")
    assert len({completion(prompt).exact for prompt in ("a", ["a", "b"], "a\nb", [1], [2], [1, 2])}) == 6


def test_a_conversation_goes_on_from_what_was_said_not_from_the_id_it_was_given() -> None:
    history = [{"type": "message", "role": "user", "content": "x"}]
    for beyond in ({}, {"tools": [{"type": "web_search"}]}):
        first, again, other = (
            identify(parse_responses(msgspec.json.encode({**RESPONSES, **beyond, **more}), before), SCOPE)
            for more, before in (
                ({"previous_response_id": "resp_1"}, history),
                ({"previous_response_id": "resp_2"}, history),
                ({}, []),
            )
        )

        assert first.exact == again.exact != other.exact
