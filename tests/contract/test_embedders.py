"""What every embedder found in the folder keeps to; a new file is tested the moment it exists."""

from __future__ import annotations

import numpy as np
import pytest

from local_runtime.embedders.base import Embedder
from local_runtime.embedders.find import known_embedders
from tests.installed_embedders import installed_embedder

ODD = {
    "empty": "",
    "blank": " \n\t ",
    "nul": "a\x00b",
    "emoji": "🙂🚀👩‍👩‍👧",
    "scripts": "naïve Ω 東京 Москва עברית हिन्दी",
    "lone surrogate": "broken \ud800 text",
    "one long word": "x" * 5000,
    "very long": "the quick brown fox jumps over the lazy dog. " * 4000,
}
MIXED = ["short", "a sentence of middling length about nothing much", *ODD.values(), "last but not least"]


@pytest.fixture(scope="module", params=known_embedders())
def embedder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return installed_embedder(request.param, tmp_path_factory.mktemp("embedders"))


def test_it_says_what_it_is(embedder: Embedder) -> None:
    model, backend, version = embedder.id.split("/")

    assert model
    assert backend
    assert len(version) == 8
    assert embedder.dimensions > 0
    assert embedder.max_tokens > 0


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
def test_any_text_becomes_one_finite_unit_vector(embedder: Embedder, text: str) -> None:
    vectors = embedder.embed([text])

    assert vectors.shape == (1, embedder.dimensions)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-4)


def test_no_text_becomes_no_vector(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, embedder.dimensions)


def test_the_same_text_gives_the_same_vector(embedder: Embedder) -> None:
    np.testing.assert_array_equal(embedder.embed(["twice the same"]), embedder.embed(["twice the same"]))


def test_a_vector_does_not_depend_on_its_batch_nor_on_its_place_in_it(embedder: Embedder) -> None:
    alone = np.concatenate([embedder.embed([text]) for text in MIXED])

    together = embedder.embed(MIXED)

    assert ((alone * together).sum(axis=1) > 0.9999).all()


def test_a_large_batch_keeps_its_order(embedder: Embedder) -> None:
    texts = [f"question {number} " + "and more " * (number % 17) for number in range(100)]

    vectors = embedder.embed(texts)

    assert (vectors @ vectors[63]).argmax() == 63
    assert float(vectors[63] @ embedder.embed([texts[63]])[0]) > 0.9999


def test_related_texts_lie_closer_than_unrelated_ones(embedder: Embedder) -> None:
    query, related, unrelated = embedder.embed(
        ["how do I reset my password", "how can I reset a forgotten password", "grilled salmon with lemon butter"]
    )

    assert query @ related > query @ unrelated + 0.2


def test_tokens_are_counted_beyond_the_window(embedder: Embedder) -> None:
    long = "word " * (embedder.max_tokens * 2)

    assert embedder.count_tokens("two words") < embedder.count_tokens("two words and four more")
    assert embedder.count_tokens(long) >= embedder.max_tokens * 2


def test_what_lies_beyond_the_window_changes_nothing(embedder: Embedder) -> None:
    window = "word " * (embedder.max_tokens + 1)

    vectors = embedder.embed([window, window + "and something else entirely"])

    assert float(vectors[0] @ vectors[1]) > 0.9999
