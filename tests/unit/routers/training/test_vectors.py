"""Data without texts: embeddings and facts beside the tables, as the gateway logged them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from routers.inputs import FACTS
from routers.training.dataset import Floats
from routers.training.errors import DataError
from routers.training.read import inspect_folder, read_folder
from routers.training.vectors import FILE, Vectors, load_vectors, save_vectors
from tests.unit.routers.training.folders import embed, queries, write


def vectors(count: int = 12) -> Vectors:
    """One for each query of the folder."""
    rng = np.random.default_rng(0)
    found = rng.normal(size=(count, 4)).astype(np.float32)
    return Vectors(
        query_ids=tuple(f"q{number}" for number in range(count)),
        embeddings=found / np.linalg.norm(found, axis=1, keepdims=True),
        facts=rng.random((count, len(FACTS))).astype(np.float32),
        tokens=np.arange(count, dtype=np.float32) + 5,
        embedder="one",
    )


def folder_with(folder: Path, stored: Vectors, texts: bool) -> Path:
    """The small folder, its texts taken away unless wanted."""
    rows = [[*row[:2], row[2] if texts else ""] for row in queries()]
    save_vectors(write(folder, queries=rows) / FILE, stored)
    return folder


def refused(texts: Sequence[str]) -> Floats:
    raise AssertionError(f"asked to embed {texts}")


def test_a_folder_without_texts_is_learned_from_as_it_was_logged(tmp_path: Path) -> None:
    stored = vectors()

    data = read_folder(folder_with(tmp_path, stored, texts=False), refused, "one")

    assert data.inputs.embeddings == pytest.approx(stored.embeddings, abs=1e-3)
    assert np.linalg.norm(data.inputs.embeddings, axis=1) == pytest.approx(np.ones(12), abs=1e-6)
    assert np.array_equal(data.inputs.facts, stored.facts) and np.array_equal(data.inputs.tokens, stored.tokens)
    assert set(data.texts) == {""} and len(set(data.groups.tolist())) == 12
    assert inspect_folder(tmp_path).embedder == "one"


def test_what_was_logged_comes_before_what_a_text_would_say(tmp_path: Path) -> None:
    stored = vectors()

    data = read_folder(folder_with(tmp_path, stored, texts=True), refused, "one")

    assert np.array_equal(data.inputs.tokens, stored.tokens)


def test_texts_without_a_vector_are_embedded(tmp_path: Path) -> None:
    stored = vectors(8)

    data = read_folder(folder_with(tmp_path, stored, texts=True), embed, "one")

    assert data.inputs.embeddings[:8] == pytest.approx(stored.embeddings, abs=1e-3)
    assert np.array_equal(data.inputs.embeddings[8:], embed(data.texts[8:]))


def test_another_embedder_embeds_anew_where_there_are_texts_and_is_refused_where_not(tmp_path: Path) -> None:
    data = read_folder(folder_with(tmp_path / "a", vectors(), texts=True), embed, "two")

    assert np.array_equal(data.inputs.embeddings, embed(data.texts))
    with pytest.raises(DataError, match="train with embedder 'one'"):
        read_folder(folder_with(tmp_path / "b", vectors(), texts=False), embed, "two")


def test_facts_that_were_not_logged_are_the_others_mean_and_noted(tmp_path: Path) -> None:
    stored = vectors()
    facts = stored.facts.copy()
    facts[3, 4:] = np.nan
    rest = np.delete(stored.facts, 3, axis=0)

    data = read_folder(folder_with(tmp_path, replace(stored, facts=facts), texts=False), refused, "one")

    assert data.inputs.facts[3, :4] == pytest.approx(stored.facts[3, :4])
    assert data.inputs.facts[3, 4:] == pytest.approx(rest[:, 4:].mean(axis=0))
    assert data.notes[0].startswith("1 queries have neither text nor all facts")


def test_the_same_prompt_asked_twice_is_one_group(tmp_path: Path) -> None:
    stored = vectors()
    stored.embeddings[7] = stored.embeddings[2]

    data = read_folder(folder_with(tmp_path, stored, texts=False), refused, "one")

    assert data.groups[7] == data.groups[2] and len(set(data.groups.tolist())) == 11


def test_a_query_with_neither_text_nor_vector_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"queries\.csv, row 10, field 'text': is empty"):
        read_folder(folder_with(tmp_path, vectors(8), texts=False), embed, "one")


def test_a_folder_without_the_file_has_no_vectors(tmp_path: Path) -> None:
    assert load_vectors(tmp_path) is None


@pytest.mark.parametrize("kept", [0, 10, 200, 900])
def test_a_torn_file_is_told(tmp_path: Path, kept: int) -> None:
    save_vectors(tmp_path / FILE, vectors())
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:kept])

    with pytest.raises(DataError, match=r"embeddings\.npz: is cut off or damaged"):
        load_vectors(tmp_path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"query_ids": ("q0",) * 12}, "two vectors for 'q0'"),
        ({"embeddings": np.full((12, 4), np.nan, dtype=np.float32)}, "the vector of 'q0' is empty"),
        ({"embeddings": np.ones((11, 4), dtype=np.float32)}, "field 'embeddings': has shape"),
        ({"facts": np.ones((12, 3), dtype=np.float32)}, "field 'facts': has shape"),
    ],
)
def test_arrays_that_do_not_fit_are_told(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    save_vectors(tmp_path / FILE, replace(vectors(), **changed))  # type: ignore[arg-type]

    with pytest.raises(DataError, match=said):
        load_vectors(tmp_path)


def test_a_file_of_other_arrays_is_told(tmp_path: Path) -> None:
    np.savez(tmp_path / FILE, keys=np.zeros(3))

    with pytest.raises(DataError, match="lacks the array"):
        load_vectors(tmp_path)
