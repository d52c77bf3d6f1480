"""The hashing embedder: deterministic, spelling only."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from local_runtime.embedders.hashing import HashingEmbedder

texts = st.text(st.characters(), max_size=80)  # lone surrogates included


@given(st.lists(texts, max_size=5))
def test_every_text_has_a_unit_vector(batch: list[str]) -> None:
    vectors = HashingEmbedder().embed(batch)

    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


@given(texts, st.lists(texts, max_size=3))
def test_a_vector_does_not_depend_on_its_neighbours(text: str, others: list[str]) -> None:
    embedder = HashingEmbedder(dimensions=64)

    np.testing.assert_array_equal(embedder.embed([text])[0], embedder.embed([*others, text])[-1])


def test_case_and_width_of_letters_do_not_matter() -> None:
    plain, shouted, wide = HashingEmbedder().embed(["reset it", "RESET IT", "ｒｅｓｅｔ ｉｔ"])  # noqa: RUF001

    np.testing.assert_array_equal(plain, shouted)
    np.testing.assert_array_equal(plain, wide)


def test_a_typing_error_keeps_texts_closer_than_another_word_does() -> None:
    right, typo, other = HashingEmbedder().embed(["international", "internatonal", "strawberry"])

    assert right @ typo > 0.4 > right @ other


def test_words_beyond_the_window_are_not_read() -> None:
    embedder = HashingEmbedder(max_tokens=3)

    vectors = embedder.embed(["one two three", "one two three four"])

    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert embedder.count_tokens("one two three four") == 4


def test_another_size_is_another_embedder() -> None:
    assert HashingEmbedder(dimensions=64).id != HashingEmbedder(dimensions=128).id
