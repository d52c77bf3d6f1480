"""The final answer of a text, whatever it is dressed in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.strategies.finals import final_of, normalised


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("42", "42"),
        ("**42**", "42"),
        ("The answer is 42.", "42"),
        ("First 41. Then 42.\n\nThe final answer is $42$.", "42"),
        ("so we get \\boxed{\\frac{1}{2}} as wanted", "\\frac{1}{2}"),
        ("\\boxed{1} no, \\boxed{2}", "2"),
        ("Work.\n#### 1,234.50", "1234.5"),
        ("Answer: (B)", "b"),
        ("The correct answer is B. Paris", "b"),
        ("B", "b"),
        ("C) because it is cold", "c"),
        ("Die Antwort lautet 7.", "7"),
        ("La réponse est Paris.", "paris"),
        ("Respuesta: Madrid", "madrid"),
        ("答案是 42。", "42"),
        ("  Paris!  ", "paris"),
        ('{"b": 1, "a": [2]}', '{"a":[2],"b":1}'),
        ('```json\n{"a": [2], "b": 1}\n```', '{"a":[2],"b":1}'),
        ("50 %", "50%"),
        ("0.50", "0.5"),
        ("$3,000", "3000"),
        ("\\boxed{\\text{Yes}}", "yes"),
    ],
)
def test_equal_answers_are_equal_texts(text: str, final: str) -> None:
    found = final_of(text)

    assert (found.text, found.comparable) == (final, True)


def test_a_long_text_without_a_marked_answer_is_not_comparable() -> None:
    assert not final_of("A tale of many words that goes on and on, " * 10).comparable


def test_nothing_is_not_comparable() -> None:
    assert not final_of("  ").comparable


def test_a_box_that_never_closes_is_no_answer() -> None:
    assert final_of("\\boxed{1").text != "1"


@given(st.text(max_size=300))
def test_no_text_breaks_it_and_case_does_not_count(text: str) -> None:
    assert isinstance(final_of(text).text, str)


@given(st.integers(-(10**9), 10**9))
def test_a_number_is_one_answer_however_it_is_written(number: int) -> None:
    assert normalised(f"{number:,}") == normalised(f"{number}.0") == normalised(f" {number}. ") == str(number)
