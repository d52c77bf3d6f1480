"""What tells two questions apart, and what does not."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.evidence import NAMES, SIZE, evidence
from gateway.cache.parsed import BUCKETS, parse

EVEN = [1.0] * BUCKETS


def of(asked: str, cached: str) -> dict[str, float]:
    return dict(zip(NAMES, evidence(parse(asked, EVEN), parse(cached, EVEN)), strict=True))


@pytest.mark.parametrize(
    ("name", "asked", "cached"),
    [
        ("numbers_differ", "files larger than 20 MB", "files larger than 200 MB"),
        ("numbers_differ", "courses with three credits", "courses with four credits"),
        ("numbers_order", "convert 5 of 20", "convert 20 of 5"),
        ("measures_differ", "change it in 5 days", "change it in 5 hours of day 5"),
        ("negation_parity", "what can I eat while pregnant", "what can't I eat while pregnant"),
        ("opposed", "switch dark mode on", "switch dark mode off"),
        ("opposed", "sort the lines ascending", "sort the lines descending"),
        ("links_conflict", "flights from Boston to Denver", "flights from Denver to Boston"),
        ("entities_order", "does the UK owe France", "does France owe the UK"),
        ("propers_disjoint", "what is the capital of Iran?", "what is the capital of Iraq?"),
        ("codes_disjoint", "find all '*.py' files", "find all '*.js' files"),
        ("times_conflict", "the weather in Oslo today", "the weather in Oslo tomorrow"),
        ("persons_swapped", "what should I call you", "what should you call me"),
        ("order_inversions", "do women hate what men do", "do men hate what women do"),
    ],
)
def test_what_changes_the_answer_is_seen(name: str, asked: str, cached: str) -> None:
    assert of(asked, cached)[name] > 0
    assert of(asked, asked)[name] == 0


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("How many courses have 3 credits?", "how many course have three credits"),
        ("find files in a folder", "find files in a directory"),
        ("What's the price of it", "what is the cost of it"),
        ("1,000 meals", "1000 meals"),
    ],
)
def test_another_spelling_leaves_no_content_unmatched(asked: str, cached: str) -> None:
    found = of(asked, cached)

    assert found["rarity_missing"] == 0
    assert found["numbers_differ"] == 0


def test_a_misspelt_word_is_matched_softly() -> None:
    found = of("symptoms of pneumonia", "symptoms of pnuemonia pneumona")

    assert found["soft_matched"] <= 1
    assert of("treat diverticulitis", "treat diverticulis")["soft_matched"] == 1


def test_only_rare_words_weigh() -> None:
    rare = [0.0] * BUCKETS

    found = dict(zip(NAMES, evidence(parse("red apples", rare), parse("green pears", rare)), strict=True))

    assert found["rarity_missing_a"] == 0


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_two_texts_have_evidence_of_finite_numbers(asked: str, cached: str) -> None:
    found = evidence(parse(asked, EVEN), parse(cached, EVEN))

    assert len(found) == SIZE
    assert all(abs(float(one)) < 1e6 for one in found)


def test_a_huge_text_is_read_in_bounded_time() -> None:
    started = time.perf_counter()

    parse("a'\"`-/ " * 1_000_000, EVEN)

    assert time.perf_counter() - started < 1.0
