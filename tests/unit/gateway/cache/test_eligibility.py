"""How far answers are shared, and the reason in words."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.cache.canonical import canonical
from gateway.cache.control import Control
from gateway.cache.eligibility import VOLATILE_TTL_S, Allowed, Window, allowed, keeps_well
from gateway.wire.chat_request import ChatRequest, parse_chat
from gateway.wire.responses_request import parse_responses
from policies.schema import CacheMode
from tests.unit.gateway.cache.bodies import QUESTION, of, request

PICTURE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


def judged(asked: ChatRequest, **terms: Any) -> Allowed:
    return allowed(asked, canonical(asked), **terms)


def after(*turns: dict[str, Any]) -> Allowed:
    messages = [{"role": "user", "content": "a"}, *turns]
    return judged(parse_chat(msgspec.json.encode({"model": "m", "messages": messages})))


def test_a_plain_question_may_share_with_its_like() -> None:
    assert of().allowed == Allowed(CacheMode.SEMANTIC)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"seed": 0}, "seed"),
        ({"logprobs": True}, "log prob"),
        ({"n": 2}, "several"),
        ({"temperature": 1.2}, "variety"),
        ({"question": [{"type": "text", "text": "What is it?"}, PICTURE]}, "image"),
        ({"question": [{"type": "text", "text": "What is it?"}, {"type": "video_url"}]}, "unknown type"),
        ({"question": ""}, "no text"),
        ({"question": "word " * 300}, "longer"),
    ],
)
def test_exact_repeats_only(fields: dict[str, Any], word: str) -> None:
    found = of(fields.pop("question", QUESTION), **fields).allowed

    assert found.mode is CacheMode.EXACT
    assert word in found.reason


@pytest.mark.parametrize(
    "last",
    [
        {"role": "tool", "tool_call_id": "c", "content": "42"},
        {"role": "assistant", "content": "The answer is"},
        {"role": "assistant", "tool_calls": [{"id": "c"}]},
    ],
)
def test_a_turn_that_is_no_question_is_for_exact_repeats(last: dict[str, Any]) -> None:
    found = after(last)

    assert found.mode is CacheMode.EXACT
    assert f"role '{last['role']}'" in found.reason


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"temperature": 1}, {"max_tokens": 5}, {"n": 1}])
def test_usual_settings_restrict_nothing(fields: dict[str, Any]) -> None:
    assert of(**fields).allowed.mode is CacheMode.SEMANTIC


@pytest.mark.parametrize(
    "question",
    [
        "What is my account balance?",
        "Where is my latest order?",
        "Do I owe anything?",
        "Why was my second card declined?",
    ],
)
def test_a_personal_question_is_not_shared_with_its_like(question: str) -> None:
    assert of(question).allowed.mode is CacheMode.EXACT


@pytest.mark.parametrize(
    "question", [QUESTION, "How do I cancel my subscription?", "Which documents do I need to renew my passport?"]
)
def test_how_something_is_done_is_not_personal(question: str) -> None:
    assert of(question).allowed.mode is CacheMode.SEMANTIC


@pytest.mark.parametrize(
    "question",
    ["What's the weather in Rome?", "Who is the current CEO of Acme?", "bitcoin price", "Plans for TODAY?"],
)  # fmt: skip
def test_what_changes_with_time_is_exact_and_short_lived(question: str) -> None:
    found = of(question).allowed

    assert (found.mode, found.ttl_s) == (CacheMode.EXACT, VOLATILE_TTL_S)


@pytest.mark.parametrize("fields", [{"web_search_options": {}}, {"tools": [{"type": "web_search"}]}])
def test_what_looks_things_up_is_short_lived_though_exact_for_another_reason(fields: dict[str, Any]) -> None:
    assert of(seed=1, **fields).allowed.ttl_s == VOLATILE_TTL_S


@pytest.mark.parametrize("question", ["What is my balance?", "What's the weather today?"])
def test_a_category_that_decides_overrides_the_words(question: str) -> None:
    asked = request(question)

    assert judged(asked, category_decides=True) == Allowed(CacheMode.SEMANTIC)
    assert judged(asked, mode=CacheMode.EXACT, category_decides=True).ttl_s is None


def test_neither_a_category_nor_a_request_allows_more_than_the_rules() -> None:
    asked = request(seed=1)

    assert judged(asked, category_decides=True, control=Control(mode=CacheMode.SEMANTIC)).mode is CacheMode.EXACT


@pytest.mark.parametrize(
    ("terms", "mode"),
    [
        ({"mode": CacheMode.OFF}, CacheMode.OFF),
        ({"control": Control(mode=CacheMode.OFF)}, CacheMode.OFF),
        ({"mode": CacheMode.OFF, "control": Control(mode=CacheMode.SEMANTIC)}, CacheMode.OFF),
        ({"mode": CacheMode.EXACT, "control": Control(mode=CacheMode.SEMANTIC)}, CacheMode.EXACT),
        ({"control": Control(mode=CacheMode.EXACT)}, CacheMode.EXACT),
    ],
)
def test_the_stricter_of_policy_and_request_holds(terms: dict[str, Any], mode: CacheMode) -> None:
    found = judged(request(), **terms)

    assert found.mode is mode
    assert found.reason


def test_a_text_is_counted_only_where_its_length_does_not_tell() -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return 16

    window = Window(16, count)

    assert window.holds("a b c d e f g h i j k l m n")
    assert not window.holds("x" * 641)
    assert counted == []
    assert window.holds("언어 " * 8)
    assert not Window(15, count).holds("언어 " * 8)
    assert len(counted) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
        {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]},
        {"prompt": {"id": "pmpt_1"}},
    ],
)
def test_what_a_vendor_does_or_keeps_for_a_response_is_given_to_exact_repeats_and_not_for_long(
    fields: dict[str, Any],
) -> None:
    asked = parse_responses(msgspec.json.encode({"model": "m", "input": QUESTION, **fields}))
    found = judged(asked)

    assert (found.mode, found.ttl_s) == (CacheMode.EXACT, VOLATILE_TTL_S)
    assert not keeps_well(asked, canonical(asked))
