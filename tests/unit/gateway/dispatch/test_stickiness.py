"""Sessions: which requests have one, what makes them equal, and how they spread over endpoints."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch.stickiness import LEAST_TOKENS, keep_to, session_of
from gateway.wire.chat_request import ChatRequest, Original
from routers.decision import Features, Query
from tests.unit.gateway.dispatch.calls import chat

SYSTEM = {"role": "system", "content": "You are terse."}
FIRST = {"role": "user", "content": "What is a lease?"}
REPLY = {"role": "assistant", "content": "A promise with an end."}
NEXT = {"role": "user", "content": "Whose?"}

SESSIONS = st.integers(0, 2**64 - 1).map(lambda number: f"{number:016x}")
NAMES = st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=1, max_size=6, unique=True)


def session(*messages: dict[str, Any], key: str = "k", header: str = "", tokens: int = 10, **fields: Any) -> str | None:
    turns = sum(one["role"] == "user" for one in messages)
    query = Query(text="", features=Features(tokens=tokens, chars=1, turns=turns))
    return session_of(chat(messages=list(messages), **fields), query, key, header)


def test_a_short_first_turn_has_no_session() -> None:
    assert session(SYSTEM, FIRST) is None


def test_a_conversation_is_the_same_from_turn_to_turn_and_with_a_long_prompt_from_its_first() -> None:
    second = session(SYSTEM, FIRST, REPLY, NEXT)

    assert second is not None
    assert session(SYSTEM, FIRST, REPLY, NEXT, REPLY, FIRST) == second
    assert session(SYSTEM, FIRST, tokens=LEAST_TOKENS) == second


@pytest.mark.parametrize(
    "other",
    [
        session(FIRST, REPLY, NEXT),
        session(SYSTEM, NEXT, REPLY, FIRST),
        session(SYSTEM, FIRST, REPLY, NEXT, key="another"),
        session(SYSTEM, FIRST, REPLY, NEXT, header="mine"),
    ],
)
def test_another_beginning_or_another_caller_is_another_conversation(other: str | None) -> None:
    assert other is not None
    assert other != session(SYSTEM, FIRST, REPLY, NEXT)


def test_a_named_session_counts_from_the_first_turn_and_the_header_wins() -> None:
    named = session(FIRST, header="s1")

    assert named is not None
    assert session(NEXT, header="s1") == named
    assert session(NEXT, header="s1", prompt_cache_key="other") == named
    assert session(FIRST, prompt_cache_key="s1") == named
    assert session(FIRST, header="s1", key="another") != named


def test_a_cache_key_is_found_in_the_original_dialect() -> None:
    inner = chat(prompt_cache_key="s1")
    outer = ChatRequest(chat().envelope, chat().fields, original=Original("responses", inner.fields))
    query = Query(text="", features=Features(tokens=1, chars=1))

    assert session_of(outer, query, "k", None) == session_of(inner, query, "k", None) is not None


def test_what_is_no_cache_key_and_a_user_make_no_session() -> None:
    assert session(FIRST, prompt_cache_key=7) is None
    assert session(FIRST, user="the whole company") is None


def test_a_message_of_pictures_only_still_begins_a_conversation() -> None:
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}

    assert session(picture, REPLY, NEXT) is not None


@given(one=SESSIONS, names=NAMES)
def test_the_order_depends_on_names_not_on_places(one: str, names: list[str]) -> None:
    same = [1.0] * len(names)
    forwards = [names[place] for place in keep_to(one, names, same, [0] * len(names))]
    backwards = [names[::-1][place] for place in keep_to(one, names[::-1], same, [0] * len(names))]

    assert forwards == backwards


@given(one=SESSIONS, names=NAMES, gone=st.integers(0, 5))
def test_when_an_endpoint_leaves_the_others_keep_their_order(one: str, names: list[str], gone: int) -> None:
    left = [name for place, name in enumerate(names) if place != gone % len(names)]
    before = [names[place] for place in keep_to(one, names, [1.0] * len(names), [0] * len(names))]

    after = [left[place] for place in keep_to(one, left, [1.0] * len(left), [0] * len(left))] if left else []

    assert after == [name for name in before if name in left]


def test_sessions_spread_by_weight() -> None:
    names, weights = ["a", "b", "c"], [2.0, 1.0, 1.0]
    sessions = (session(FIRST, header=str(number)) or "" for number in range(4000))

    firsts = Counter(keep_to(one, names, weights, [0, 0, 0])[0] for one in sessions)

    assert [firsts[place] / 4000 for place in range(3)] == pytest.approx([0.5, 0.25, 0.25], abs=0.03)


@given(one=SESSIONS, names=NAMES, calls=st.lists(st.integers(0, 50), min_size=6, max_size=6))
def test_somebody_is_never_crowded_and_comes_before_all_who_are(one: str, names: list[str], calls: list[int]) -> None:
    in_flight = calls[: len(names)]

    first = in_flight[keep_to(one, names, [1.0] * len(names), in_flight)[0]]

    others = sum(in_flight) - first
    assert first < 4 or first * (len(names) - 1) <= 2 * others
