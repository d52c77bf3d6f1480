"""The few labelled outcomes of new models, from a folder or a single table."""

from __future__ import annotations

from pathlib import Path

import pytest

from routers.training.errors import DataError
from routers.training.labels import read_labels
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
