"""One form for all spellings of a request, and for nothing else."""

from __future__ import annotations

import unicodedata
from time import perf_counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.canonical import canonical, normal
from gateway.wire.chat_request import parse_chat
from tests.unit.gateway.cache.bodies import body, request

SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"stream": True, "stream_options": {"include_usage": True}}, {}),
    ({"user": "u-1", "metadata": {"trace": "a"}, "store": True, "service_tier": "flex"}, {}),
    ({"temperature": 1, "top_p": 1.0, "n": 1, "presence_penalty": 0, "logprobs": False, "stop": None}, {}),
    ({"tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "parallel_tool_calls": True}, {}),
    ({"cache": {"mode": "exact"}, "prompt_cache_key": "k", "unknown": None}, {}),
    ({"stop": "a"}, {"stop": ["a"]}),
    ({"stop": ["b", "a"]}, {"stop": ["a", "b"]}),
    ({"max_tokens": 9}, {"max_completion_tokens": 9}),
    ({"temperature": 0}, {"temperature": 0.0}),
]
DIFFERENT: list[dict[str, Any]] = [
    {"temperature": 0.5}, {"top_p": 0.5}, {"n": 2}, {"seed": 0}, {"stop": "a"}, {"max_tokens": 5}, {"logprobs": True},
    {"tools": [{"type": "function", "function": {"name": "f"}}]}, {"response_format": {"type": "json_object"}},
    {"logit_bias": {"5": 1}}, {"reasoning_effort": "high"}, {"unknown": 0}, {"unknown": False},
    {"unknown": {"a": None}}, {"web_search_options": {}},
    {"models": ["a", "b"]}, {"top_k": 1}, {"verbosity": "low"}, {"modalities": ["audio"]},
]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), SAME)
def test_fields_that_say_the_same_are_one(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert canonical(request(**first)) == canonical(request(**second))


def test_every_field_that_may_change_the_answer_is_told_apart() -> None:
    forms = {canonical(request(**one)).rest for one in ({}, *DIFFERENT)}

    assert len(forms) == len(DIFFERENT) + 1


def test_the_order_of_tools_is_nothing_and_that_of_an_answers_properties_is() -> None:
    one, two = ({"type": "function", "function": {"name": name}} for name in "ab")
    forward, back = ({"type": "json_schema", "json_schema": {"schema": {"properties": {name: {} for name in names}}}}
                     for names in ("xy", "yx"))  # fmt: skip

    assert canonical(request(tools=[one, two])) == canonical(request(tools=[two, one]))
    assert canonical(request(response_format=forward)) != canonical(request(response_format=back))


def test_two_bounds_on_output_that_differ_are_not_swapped() -> None:
    first = canonical(request(max_tokens=5, max_completion_tokens=7))

    assert first != canonical(request(max_tokens=7, max_completion_tokens=5))


def test_one_part_of_text_is_the_text_and_several_are_not_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]

    assert canonical(request([parts[0]])) == canonical(request("a"))
    assert canonical(request(parts)).text == "a\nb"
    assert canonical(request(parts)).rest != canonical(request("a\nb")).rest


def test_a_null_in_place_of_the_text_is_not_what_stands_for_it() -> None:
    empty = canonical(request([{"type": "text", "text": None}]))

    assert empty.texts == ()
    assert empty.rest != canonical(request([{"type": "text", "text": "a"}])).rest


def test_a_number_beyond_all_bounds_is_kept_as_it_stands() -> None:
    plain = msgspec.json.encode(body(unknown="1e999"))
    number = plain.replace(b'"1e999"', b"1e999")

    assert canonical(parse_chat(number)).rest != canonical(parse_chat(plain)).rest
    assert b'"unknown":1e999' in canonical(parse_chat(number)).rest


def test_what_models_and_tools_said_is_left_as_it_is() -> None:
    def after(said: str) -> bytes:
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": said}]
        return canonical(parse_chat(msgspec.json.encode({"model": "m", "messages": turns}))).rest

    assert after("Sure: ") != after("Sure:")


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("  What   is\u00a0it? \n", "What is it?"),
        ("a\r\nb\n\n\n\nc  d", "a\nb\n\nc d"),
        ("\uff21\uff22\uff23 \ufb01ne", "ABC fine"),
        ("Cafe\u0301 İstanbul", "Café İstanbul"),
        ("What is 10²?", "What is 10²?"),
        ("5½ of H₂O, ① and ㎡", "5½ of H₂O, ① and ㎡"),
        ("fix\nif x:\n    a\n  b", "fix\nif x:\n    a\n  b"),
        ('count blanks in "a  b"', 'count blanks in "a  b"'),
        ("join with '  ' please", "join with '  ' please"),
        ("it's   here", "it's here"),
    ],
)
def test_texts_have_one_form_where_their_meaning_allows(written: str, form: str) -> None:
    assert normal(written) == form


@given(st.text(max_size=60))
def test_a_form_is_its_own_form_and_of_all_spellings(text: str) -> None:
    form = normal(text)

    assert normal(form) == form
    assert normal(unicodedata.normalize("NFD", text)) == normal(unicodedata.normalize("NFC", text))
    assert normal(f" \n{text}\n ").strip() == normal(text).strip()


@given(st.text("aB1.,;²é", min_size=1, max_size=20), st.text("aB1.,;²é", min_size=1, max_size=20))
def test_texts_of_other_letters_have_other_forms(first: str, second: str) -> None:
    assert (normal(first) == normal(second)) == (first == second)


def test_a_prompt_of_ten_megabytes_is_no_more_than_read_and_hashed() -> None:
    long = request("word  wörd² \t\n" * 700_000)
    began = perf_counter()

    canonical(long)

    assert perf_counter() - began < 2
