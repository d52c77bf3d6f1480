"""What a router sees of a prompt."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from routers.decision import Features, Query
from routers.inputs import FACTS, FACTS_WINDOW, facts_of, inputs_of


def fact(name: str, text: str, tokens: int = 10) -> float:
    return facts_of(text, tokens, code=False, tools=False)[FACTS.index(name)]


@given(st.text(st.characters(max_codepoint=127), max_size=200))
def test_digits_letters_and_signs_are_shares_of_an_ascii_text(text: str) -> None:
    size = max(len(text), 1)

    assert fact("digits", text) == sum(map(str.isdigit, text)) / size
    assert fact("letters", text) == sum(map(str.isalpha, text)) / size
    assert fact("mathematics", text) == sum(letter in "+-*/=^<>\\$%" for letter in text) / size


@given(st.text(max_size=200))
def test_facts_of_any_text_are_finite_and_small(text: str) -> None:
    facts = facts_of(text, len(text), code=True, tools=True)

    assert len(facts) == len(FACTS)
    assert all(0 <= one <= 1.5 for one in facts)


def test_letters_of_other_scripts_count_and_signs_do_not() -> None:
    assert fact("letters", "Größe") == 1.0
    assert fact("letters", "日本語") == 1.0
    assert fact("letters", "“…”😀") == 0.0


def test_options_and_questions_are_counted() -> None:
    assert fact("options", "Which?\nA. one\nB) two\n(C) three\nD: four") == 0.4
    assert fact("questions", "What? Why?") == 0.4


def test_only_the_beginning_of_a_long_prompt_is_looked_at() -> None:
    start = "a" * FACTS_WINDOW

    assert fact("digits", start + "1" * 1000) == 0.0


def test_a_query_without_a_fitting_embedding_is_a_row_of_zeros() -> None:
    bare = Query("hello", Features(tokens=3, chars=5))
    other = Query("hello", Features(tokens=3, chars=5), embedding=np.ones(7, np.float32))

    assert not inputs_of(bare, 4).embeddings.any() and not inputs_of(other, 4).embeddings.any()
    assert inputs_of(bare, 4).embeddings.shape == (1, 4)
    assert inputs_of(other, 7).embeddings.all()
