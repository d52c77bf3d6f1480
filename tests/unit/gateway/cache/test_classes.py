"""What questions are about: learnt from a stream, told from vector and marks, and silent on doubt."""

from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from gateway.cache.classes import MARKS, Classes, ClassesError, ClassesModel, marks
from gateway.cache.learner import Stream
from gateway.cache.replay import StreamRow
from gateway.cache.semantic import ELSE
from gateway.cache.taught import TaughtClasses, confusion, repeating, teach
from routers.training.cache_classes import crossed, fit_classes
from tests.unit.gateway.cache.labelled import stream, vectors

ROWS = stream()
VECTORS = vectors(ROWS)


@pytest.fixture(scope="module")
def made() -> TaughtClasses:
    folds = np.unique([row.answer_id for row in ROWS], return_inverse=True)[1] % 3
    taught = teach([Stream(ROWS, VECTORS)], folds, "hashing")
    assert taught is not None
    return taught


def test_what_was_learnt_is_told_again(made: TaughtClasses) -> None:
    classes = Classes(made.model)

    told = [classes.of(vector, row.query) for row, vector in zip(ROWS, VECTORS, strict=True)]

    assert all(name == row.category for (name, _), row in zip(told, ROWS, strict=True))
    assert all(0.5 < chance <= 1 for _, chance in told)


def test_answers_that_no_model_saw_are_told_too(made: TaughtClasses) -> None:
    right = [topic == row.category for topic, row in zip(made.topics, ROWS, strict=True)]

    assert sum(right) / len(right) > 0.95


def test_on_doubt_nothing_is_said(made: TaughtClasses) -> None:
    sure, doubtful = Classes(made.model, least=0.0), Classes(made.model, least=0.999)

    assert sure.topic(VECTORS[0], ROWS[0].query) == ROWS[0].category
    assert doubtful.topic(VECTORS[0], ROWS[0].query) == ELSE


@pytest.mark.parametrize("vector", [np.full(256, np.nan), np.full(256, np.inf), np.ones(3), np.ones((2, 256))])
def test_a_broken_vector_says_nothing(made: TaughtClasses, vector: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        name, _ = Classes(made.model).of(vector.astype(np.float32), "text")

    assert name == ELSE


def test_categories_in_which_nothing_repeats_teach_nothing() -> None:
    rows = [StreamRow(1, "a", "once", "1"), StreamRow(2, "b", "twice", "2"), StreamRow(3, "c", "twice", "2")]

    assert repeating(rows) == {"twice"}
    assert teach([Stream(rows, np.eye(3, dtype=np.float32))], np.array([0, 1, 2]), "x") is None


def test_three_classes_are_told_apart_and_no_fold_helps_itself() -> None:
    inputs = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    names = ["a"] * 4 + ["b"] * 4 + ["c"] * 4
    everything = np.ones(12, dtype=np.bool_)

    apart = crossed(inputs, names, np.tile([0, 1], 6), everything)
    unseen = crossed(inputs, names, np.repeat([0, 1, 2], 4), everything)

    assert fit_classes(inputs, names).likeliest(inputs) == names
    assert apart == names
    assert all(told != name for told, name in zip(unseen, names, strict=True))


def test_one_category_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="fewer than two categories"):
        fit_classes(np.eye(2, dtype=np.float32), ["a", "a"])


def test_marks_tell_what_of_is_written_and_not_how() -> None:
    assert marks("Is it so?") == marks("is it so!")
    assert marks('cost of 3 items / "x" in $')[1:5] == (1.0, True, True, True)
    assert marks("def f():\n    return 1")[5]
    assert len(marks("")) == len(MARKS)
    assert marks("1 " * 9)[1] == 3.0


def test_what_is_saved_says_the_same_and_holds_no_text(made: TaughtClasses, tmp_path: Path) -> None:
    made.model.save(tmp_path / "c.npz")
    read = Classes(ClassesModel.load(tmp_path / "c.npz"))

    told = [read.of(vector, row.query) for row, vector in zip(ROWS, VECTORS, strict=True)]

    assert told == [Classes(made.model).of(vector, row.query) for row, vector in zip(ROWS, VECTORS, strict=True)]
    assert b"Oslo" not in (tmp_path / "c.npz").read_bytes()


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClassesError, match=r"none\.npz"):
        ClassesModel.load(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK nothing")
    with pytest.raises(ClassesError, match=r"bad\.npz"):
        ClassesModel.load(tmp_path / "bad.npz")
    ClassesModel(("a", "b"), "x", np.full((2, 9), np.nan, dtype=np.float32)).save(tmp_path / "nan.npz")
    with pytest.raises(ClassesError, match="2 classes"):
        ClassesModel.load(tmp_path / "nan.npz")


def test_confusion_counts_rows() -> None:
    assert confusion(["a", "a", "b"], ["a", "b", "b"]) == {"a": {"a": 1, "b": 1}, "b": {"b": 1}}


def test_a_question_takes_microseconds() -> None:
    weights = np.random.default_rng(0).normal(size=(10, 384 + len(MARKS) + 1)).astype(np.float32)
    classes = Classes(ClassesModel(tuple("abcdefghij"), "x", weights))
    vector = weights[0, :384] / np.linalg.norm(weights[0, :384])

    def took() -> float:
        begun = perf_counter()
        for _ in range(20):
            classes.of(vector, "what is the tallest building in the capital of Norway?")
        return (perf_counter() - begun) / 20

    # The quickest of several tries: other work on the machine makes single ones late.
    assert min(took() for _ in range(50)) < 100e-6
