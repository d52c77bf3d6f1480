"""Tokens: the model's window at bounded cost, and groups with hardly any padding."""

from __future__ import annotations

from pathlib import Path
from time import process_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tokenizers")
from tokenizers import Tokenizer

from local_runtime.embedders.base import Embedder
from local_runtime.embedders.minilm import package
from local_runtime.embedders.minilm.tokens import MiniLMTokens, length_groups, padded, well_formed

WINDOW = 12
pieces = st.sampled_from(
    ["word", " ", "x" * 120, "é", "́", "東京", "🙂", ".", "antidisestablishmentarianism", "\n", "un##"]
)
texts = st.lists(pieces, max_size=8).map("".join)


@pytest.fixture(scope="module")
def tokenizer_json(int8: Embedder) -> Path:
    return package.locate().tokenizer


@pytest.fixture(scope="module")
def tokens(tokenizer_json: Path) -> MiniLMTokens:
    return MiniLMTokens(tokenizer_json, WINDOW)


@pytest.fixture(scope="module")
def plain(tokenizer_json: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(tokenizer_json))
    tokenizer.no_padding()
    tokenizer.enable_truncation(WINDOW)
    return tokenizer


@given(texts, st.integers(0, 200))
@settings(deadline=None)
def test_cutting_early_changes_no_token(tokens: MiniLMTokens, plain: Tokenizer, text: str, times: int) -> None:
    assert tokens.ids(text * times) == plain.encode(text * times).ids


def test_a_megabyte_without_a_space_is_one_unknown_word(tokens: MiniLMTokens) -> None:
    assert len(tokens.ids("x" * 1_000_000)) == 3


@pytest.mark.parametrize("sign", ["a", " ", "\n", "é", "東", "\u0301", "!", "\ud800", "\x00", "a "])
def test_no_text_of_millions_of_characters_takes_long(tokens: MiniLMTokens, sign: str) -> None:
    text = sign * 4_000_000
    began = process_time()

    row, count = tokens.ids(text), tokens.count(text)

    # Some 30 ms; encoding all of it takes two to ten seconds.
    assert process_time() - began < 1.0
    assert 2 <= len(row) <= WINDOW
    assert len(row) <= count <= len(text) + 2


def test_what_follows_a_word_of_many_thousand_characters_is_not_read(tokens: MiniLMTokens) -> None:
    assert tokens.ids("x" * 16_000 + " and more") == tokens.ids("x" * 200 + " and more")
    assert tokens.ids("x" * 16_384 + " and more") == tokens.ids("x" * 200)


@pytest.mark.parametrize("text", ["the quick brown fox. ", "東京 ", "one two\n\n", "antidisestablishmentarianism, "])
def test_a_long_text_is_counted_within_a_hundredth(tokens: MiniLMTokens, plain: Tokenizer, text: str) -> None:
    per_text = len(plain.encode(text, add_special_tokens=False).ids)
    times = 500_000 // len(text)

    assert tokens.count(text * times) == pytest.approx(per_text * times, rel=0.01)
    assert tokens.count(text * 1_000) == per_text * 1_000 + 2


def test_a_long_text_is_counted_in_all_its_parts(tokens: MiniLMTokens) -> None:
    text = "a" * 500_000 + " word" * 100_000

    assert tokens.count(text) == pytest.approx(100_000, rel=0.05)


def test_the_count_includes_what_is_cut(tokens: MiniLMTokens) -> None:
    assert tokens.count("word " * 100) == 102
    assert len(tokens.ids("word " * 100)) == WINDOW


def test_a_lone_surrogate_is_replaced_and_all_else_kept() -> None:
    assert well_formed("a\ud800b 東京 é") == "a?b 東京 é"


@given(st.lists(st.integers(2, 256), max_size=80))
def test_groups_hold_every_text_once_and_waste_little(lengths: list[int]) -> None:
    groups = list(length_groups(lengths))

    assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
    for group in groups:
        longest = max(lengths[place] for place in group)
        assert len(group) <= 32
        assert len(group) == 1 or len(group) * longest <= 1024
        assert sum(longest - lengths[place] for place in group) <= 16


def test_texts_of_one_length_share_a_pass() -> None:
    assert [len(group) for group in length_groups([19] * 32)] == [32]


def test_padding_is_masked() -> None:
    ids, mask = padded([[101, 7, 102], [101, 102]])

    np.testing.assert_array_equal(ids, [[101, 7, 102], [101, 102, 0]])
    np.testing.assert_array_equal(mask, [[1, 1, 1], [1, 1, 0]])
