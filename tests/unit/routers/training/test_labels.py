"""The few labelled outcomes of new models, from a folder or a single table."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from routers.inputs import FACTS
from routers.training.errors import DataError
from routers.training.labels import read_labels
from routers.training.read import read_folder
from routers.training.vectors import Vectors, save_vectors
from tests.unit.routers.training import folders

HEADER = ["query_id", "text", "model", "score", "tokens", "cost"]


def table(folder: Path, rows: folders.Rows, header: list[str] = HEADER) -> Path:
    file = folder / "labels.csv"
    file.write_bytes(folders.as_csv(header, rows))
    return file


def test_a_table_is_read_with_the_models_of_the_folder_beside_it(tmp_path: Path) -> None:
    beside = folders.write(tmp_path / "data")
    file = table(tmp_path, [["n1", "What is new?", "large", 1, 30, 0.002], ["n2", "And now?", "large", 0, 40, 0.003]])

    found = read_labels(file, beside, folders.embed, "e")

    assert [card.id for card in found.models] == ["small", "large"]
    assert found.score[:, 1].tolist() == [1, 0] and not found.observed[:, 0].any()
    assert found.output_tokens[0, 1] == 30 and found.cost_usd[1, 1] == 0.003
    assert found.texts == ("What is new?", "And now?")


def test_texts_that_a_table_lacks_come_from_the_folder_s_queries(tmp_path: Path) -> None:
    beside = folders.write(tmp_path / "data")
    file = table(tmp_path, [["q3", "small", 1]], ["query_id", "model", "score"])

    assert read_labels(file, beside, folders.embed, "e").texts == ("What is 3 and one?",)


def test_texts_are_looked_up_in_the_training_folders_too(tmp_path: Path) -> None:
    beside = folders.write(tmp_path / "data", queries=folders.queries(3), outcomes=folders.outcomes(3))
    training = folders.write(tmp_path / "training")
    file = table(tmp_path, [["q2", "small", 1], ["q7", "small", 1]], ["query_id", "model", "score"])

    found = read_labels(file, beside, folders.embed, "e", [training])

    assert found.texts == ("What is 2 and one?", "What is 7 and one?")


def test_a_query_of_the_same_id_and_another_text_is_another_query(tmp_path: Path) -> None:
    beside = folders.write(tmp_path / "data")
    file = table(tmp_path, [["q3", "What is new?", "small", 1, 30, 0.1]])

    assert read_labels(file, beside, folders.embed, "e").texts == ("What is new?",)


def test_a_query_keeps_the_context_that_its_folder_has(tmp_path: Path) -> None:
    beside = folders.write(tmp_path / "data")
    rows = [[*row, "a tool"] for row in folders.queries()]
    (beside / "queries.csv").write_bytes(folders.as_csv([*folders.QUERIES, "context"], rows))
    file = table(tmp_path, [["q3", "What is 3 and one?", "small", 1, 30, 0.1]])

    whole, found = read_folder(beside, folders.embed, "e"), read_labels(file, beside, folders.embed, "e")

    assert found.texts == ("What is 3 and one?\na tool",)
    assert np.array_equal(found.inputs.facts[0], whole.inputs.facts[3])


def test_folders_without_texts_give_their_vectors_and_the_same_questions(tmp_path: Path) -> None:
    beside = folders.write(tmp_path / "data")
    rng = np.random.default_rng(0)
    ids = tuple(row[0] for row in folders.queries())
    stored = Vectors(
        ids, rng.normal(size=(12, 4)).astype(np.float32), np.full((12, len(FACTS)), 0.5, dtype=np.float32),
        np.arange(12, dtype=np.float32), "e",
    )  # fmt: skip
    save_vectors(beside / "embeddings.npz", stored)
    (beside / "queries.csv").write_bytes(folders.as_csv(["query_id"], [[one] for one in ids]))
    file = table(tmp_path, [["q7", "small", 1], ["q3", "small", 0]], ["query_id", "model", "score"])

    whole, found = read_folder(beside, folders.embed, "e"), read_labels(file, beside, folders.embed, "e")

    assert found.groups.tolist() == whole.groups[[7, 3]].tolist()
    assert np.array_equal(found.inputs.embeddings, whole.inputs.embeddings[[7, 3]])
    assert found.inputs.tokens.tolist() == [7, 3]


@pytest.mark.parametrize("name", ["shots.new.csv", "bfcl-0.5.csv.gz", "labels.v2.final.csv"])
def test_a_table_with_dots_in_its_name_is_read(tmp_path: Path, name: str) -> None:
    beside = folders.write(tmp_path / "data")
    file = table(tmp_path, [["q3", "small", 1]], ["query_id", "model", "score"])
    content = file.read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)

    assert len(read_labels(tmp_path / name, beside, folders.embed, "e")) == 1


def test_the_very_file_is_read_whatever_lies_beside_it(tmp_path: Path) -> None:
    beside = folders.write(tmp_path / "data")
    file = table(tmp_path, [["q3", "small", 1]], ["query_id", "model", "score"])
    (tmp_path / "labels.jsonl").write_text("{}")

    assert read_labels(file, beside, folders.embed, "e").query_ids == ("q3",)


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("q3")

    with pytest.raises(DataError, match=r"labels.txt is no table.*\.csv"):
        read_labels(tmp_path / "labels.txt", tmp_path, folders.embed, "e")


def test_a_folder_of_labels_is_read_as_any_other(tmp_path: Path) -> None:
    folder = folders.write(tmp_path / "labels", queries=folders.queries(3), outcomes=folders.outcomes(3))

    assert len(read_labels(folder, folder, folders.embed, "e")) == 3


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (["n1", "What?", "large", "nan", 1, 1], "labels.csv, row 3, field 'score'"),
        (["n1", "What?", "nobody", 1, 1, 1], "labels.csv, row 3, field 'model'"),
        (["n1", "What?", "large", 2, 1, 1], "labels.csv, row 3, field 'score'"),
    ],
)
def test_a_wrong_row_is_named_with_the_file_that_was_given(tmp_path: Path, row: list[object], words: str) -> None:
    beside = folders.write(tmp_path / "data")
    file = table(tmp_path, [["n0", "Who?", "large", 1, 1, 1], row])

    with pytest.raises(DataError, match=words):
        read_labels(file, beside, folders.embed, "e")


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a folder nor a file"):
        read_labels(tmp_path / "no.csv", tmp_path, folders.embed, "e")
