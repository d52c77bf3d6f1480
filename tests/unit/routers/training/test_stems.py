"""Which questions count as one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routers.training.stems import question_number, stem

QUESTION = "Which gas do plants take up?"


@pytest.mark.parametrize(
    "same",
    [
        "which  gas do\tplants\ntake up",
        f"  {QUESTION.upper()}  ",
        f"{QUESTION}\nA. Oxygen\nB. Carbon dioxide\nAnswer:",
        f"{QUESTION}\n(a) nitrogen\n(b) helium",
        f"{QUESTION}\n  A) neon\n\n  B) argon",
        "Ｗhich gas do plants take up?",  # noqa: RUF001 - a wide letter, as some keyboards make it
    ],
)
def test_case_spacing_and_options_do_not_make_another_question(same: str) -> None:
    assert question_number(same) == question_number(QUESTION)


@pytest.mark.parametrize(
    "other",
    [
        "Which gas do animals take up?",
        f"{QUESTION}\nAnswer in one word.",
        f"{QUESTION}\nA. only one line that looks like an option",
        f"{QUESTION}\nA man asked this. B. answered.",
    ],
)
def test_other_words_make_another_question(other: str) -> None:
    assert question_number(other) != question_number(QUESTION)


def test_signs_alone_are_kept_apart() -> None:
    assert stem("+-*") == "+-*"
    assert question_number("???") != question_number("!!!")


@given(st.text(max_size=200))
def test_every_text_has_a_number_that_fits_an_index(text: str) -> None:
    assert 0 <= question_number(text) < 2**63


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_white_space_around_never_matters(text: str) -> None:
    assert question_number(f" \n{text}\t") == question_number(text)


def test_a_megabyte_of_half_a_multiple_choice_takes_no_longer_than_its_length() -> None:
    assert question_number("Why?" + "\nA. x" * 200_000) != question_number("Why?")
