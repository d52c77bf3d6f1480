"""Calibration on a stream of our own: out of fold, certified, and readable again."""

from pathlib import Path

import numpy as np
import pytest

from gateway.cache.calibrate import Calibrated, Goal, calibrate, told_of
from gateway.cache.certificate import Tally
from gateway.cache.config import read, write
from gateway.cache.learner import Stream, divided, joined, nearest
from gateway.cache.replay import Decided, StreamRow, entries, judge_of, replay
from gateway.cache.semantic import ELSE, Thresholds
from gateway.cache.verifier import Model, Verifier, VerifierError
from tests.unit.gateway.cache.labelled import stream, vectors

GOAL = Goal(0.3, grid=(0.5, 0.8, 0.95), folds=3)


def quietly(what: str, share: float) -> None:
    assert 0 <= share <= 1, what


@pytest.fixture(scope="module")
def made() -> Calibrated:
    rows = stream()
    return calibrate(Stream(rows, vectors(rows)), (), "hashing", GOAL, quietly)


def test_a_certificate_speaks_of_the_loosest_setting_within_alpha(made: Calibrated) -> None:
    certificate = made.certificates[ELSE]

    assert certificate.threshold in GOAL.grid
    assert certificate.bound <= GOAL.alpha
    assert certificate.tally == sum(made.by_threshold[certificate.threshold].values(), start=Tally())


def test_a_category_that_the_stream_lacks_is_exact_only(made: Calibrated) -> None:
    assert made.thresholds.of("facts", "facts") == made.certificates[ELSE].threshold
    assert made.thresholds.of("facts", "volatile") is None


def test_a_stricter_setting_hits_no_oftener(made: Calibrated) -> None:
    hits = [sum(one.hits for one in made.by_threshold[at].values()) for at in GOAL.grid]

    assert hits == sorted(hits, reverse=True)
    assert hits[0] > 20


def test_what_is_written_decides_as_what_was_made(made: Calibrated, tmp_path: Path) -> None:
    rows = stream()
    write(tmp_path / "cache.json", made.model, made.thresholds, told_of(made, GOAL))
    model, thresholds = read(tmp_path / "cache.json")

    ours, theirs = (decisions(rows, one, thresholds) for one in (made.model, model))

    assert ours == theirs
    assert any(one.hit for one in ours)


def test_the_model_holds_no_text(made: Calibrated, tmp_path: Path) -> None:
    write(tmp_path / "cache.json", made.model, made.thresholds, told_of(made, GOAL))

    shipped = b"".join(path.read_bytes() for path in tmp_path.iterdir())

    assert len(shipped) < 200_000
    assert b"Cairo" not in shipped
    with np.load(tmp_path / "cache.npz") as file:
        assert "population" not in str(file["told"])


def test_an_alpha_that_nothing_reaches_leaves_exact_hits_only() -> None:
    rows = stream()

    strict = calibrate(Stream(rows, vectors(rows)), (), "hashing", Goal(0.0001, grid=(0.9,), folds=2), quietly)

    assert strict.thresholds.of("facts", "facts") is None
    assert not any(one.hit for one in decisions(rows, strict.model, strict.thresholds))


def test_categories_are_certified_by_themselves_on_demand() -> None:
    rows = stream()

    each = calibrate(
        Stream(rows, vectors(rows)), (), "hashing", Goal(0.4, each=True, grid=(0.5, 0.8), folds=2), quietly
    )

    assert set(each.certificates) == {"facts", "numbers"}
    assert each.thresholds.of("facts", "never seen") is None


def test_other_streams_teach_and_certify_nothing() -> None:
    rows = stream()
    given = vectors(rows)
    first, other = Stream(rows[:100], given[:100]), Stream(rows[100:], given[100:])

    made = calibrate(first, [other], "hashing", Goal(0.4, grid=(0.5,), folds=2), quietly)

    assert sum(one.requests for one in made.by_threshold[0.5].values()) == 100
    assert sum(one.requests for one in made.others[0][0.5].values()) == 50


def test_a_stream_that_teaches_nothing_is_refused() -> None:
    rows = [StreamRow(place, f"word{place}", "facts", str(place)) for place in range(4)]

    with pytest.raises(ValueError, match="no near queries"):
        calibrate(Stream(rows, np.eye(4, dtype=np.float32)), (), "hashing", Goal(0.1, folds=2), quietly)


def test_folds_divide_no_answer_and_no_template() -> None:
    rows = stream()
    groups = joined(rows, np.array([0]), np.array([1]))

    folds = divided(groups, 3, 0)

    by_answer: dict[str, set[int]] = {}
    for row, fold in zip(rows, folds.tolist(), strict=True):
        by_answer.setdefault(row.answer_id, set()).add(fold)
    assert all(len(found) == 1 for found in by_answer.values())
    assert folds[0] == folds[1]
    assert set(folds.tolist()) == {0, 1, 2}


def test_numbers_and_names_make_no_new_template() -> None:
    texts = ("flights from BOSTON to OSLO", "flights from LIMA to RIGA", "flights to OSLO")
    rows = [StreamRow(place, text, "data", str(place)) for place, text in enumerate(texts)]

    groups = joined(rows, np.array([], dtype=np.intp), np.array([], dtype=np.intp))

    assert groups[0] == groups[1] != groups[2]


def test_the_nearest_earlier_rows_are_found() -> None:
    given = np.array([[1, 0], [0, 1], [0.8, 0.6], [0.6, 0.8]], dtype=np.float32)

    found = [(row, near.tolist()) for row, near, _ in nearest(given, 2, 0.7)]

    assert found == [(2, [0]), (3, [2, 1])]


def test_a_broken_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"format": 1, "thresholds": {"*": 0.9}, "verifier": "a.npz"}')
    with pytest.raises(VerifierError, match=r"a\.npz"):
        read(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(ValueError, match="no cache configuration"):
        read(tmp_path / "a.json")


def decisions(rows: list[StreamRow], model: Model, thresholds: Thresholds) -> list[Decided]:
    verifier = Verifier(model)
    asked = entries(rows, list(vectors(rows)), verifier.parse)
    return list(replay(rows, asked, judge_of(verifier), thresholds))
