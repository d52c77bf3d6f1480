"""The weight of a text in tokens, piece by piece."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routers.tokens import estimate_tokens, weigh_tokens

# Passages with their counts by o200k and cl100k.
COUNTED = (
    (
        "Die Europäische Union veröffentlichte gestern einen Bericht über die wirtschaftliche Lage"
        " der Mitgliedstaaten.",
        20,
        26,
    ),
    ("人工智能正在改变我们的生活方式,许多公司已经开始使用大型语言模型来提高工作效率。", 22, 36),
    ("for i in range(10):\n    print(i, values[i] * 2)\n", 18, 18),
    ("The committee will meet on Thursday to discuss the budget for next year and to elect a new chair.", 20, 20),
    ('{"city":"Paris","unit":"celsius","days":[1,2,3]}', 18, 18),
)


@pytest.mark.parametrize(("text", "fewer", "more"), COUNTED)
def test_an_estimate_lies_between_what_two_tokenizers_count_or_near(text: str, fewer: int, more: int) -> None:
    assert 0.85 * fewer <= estimate_tokens(text) <= 1.15 * more


@given(st.lists(st.text(max_size=40), max_size=12))
def test_pieces_weigh_about_what_their_whole_weighs(pieces: list[str]) -> None:
    apart, joined = sum(map(weigh_tokens, pieces)), weigh_tokens("".join(pieces))

    # Borders cost little: each may hide a pair of spaces, part a long word, or leave a piece of letters only.
    assert abs(apart - joined) <= 13 * (len(pieces) + 1)


def test_nothing_weighs_nothing_and_anything_at_least_one_token() -> None:
    assert (weigh_tokens(""), estimate_tokens(""), estimate_tokens("a")) == (0, 0, 1)


def test_letters_without_any_border_are_codes_and_no_words() -> None:
    code, words = "QmFzZTY0aXNub3R3b3Jkcw" * 10, "these are quite usual words " * 8

    assert weigh_tokens(code) > 2.5 * weigh_tokens(words)


@pytest.mark.parametrize("script", ["привет", "שלום", "γειά", "नमस्ते", "你好", "こんにちは", "안녕", "🙂🙂"])
def test_no_script_is_overlooked(script: str) -> None:
    assert 0.2 * len(script) <= weigh_tokens(script) <= 2.6 * len(script)
