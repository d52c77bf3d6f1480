"""The verifier: one scale of probability, the stricter category, and files that are what they say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gateway.cache.evidence import SIZE
from gateway.cache.parsed import BUCKETS
from gateway.cache.verifier import INPUTS, Floats, Model, Verifier, VerifierError, forest_score, net_score, own_score


def model() -> Model:
    """One tree on the cosine (column 2 after two categories), a linear part that gives 'strict' less."""
    linear = np.zeros((3, len(INPUTS) + 1), dtype=np.float32)
    linear[:, 0] = 4.0
    linear[:, -1] = (0.0, -3.0, -2.0)
    return Model(
        categories=("easy", "strict"),
        embedder="e",
        rarity=np.ones(BUCKETS, dtype=np.float32),
        roots=np.array([0], dtype=np.int32),
        feature=np.array([2, 0, 0], dtype=np.int16),
        threshold=np.array([0.9, np.inf, np.inf], dtype=np.float32),
        left=np.array([1, 1, 2], dtype=np.int32),
        right=np.array([2, 1, 2], dtype=np.int32),
        value=np.array([0.0, -1.0, 1.0], dtype=np.float32),
        base=0.5,
        depth=1,
        linear=linear,
        scale=np.tile(np.array([0.0, 1.0, 1.0, 0.0, 0.0], dtype=np.float32), (3, 1)),
        own_roots=np.array([0], dtype=np.int32),
        own_spans=np.array([0, 0, 1], dtype=np.int32),
        own_base=np.array([0.0, 0.25], dtype=np.float32),
        center=np.zeros(len(INPUTS), dtype=np.float32),
        width=np.ones(len(INPUTS), dtype=np.float32),
        net_0=np.eye(2 + len(INPUTS), 1, -2, dtype=np.float32)[None],
        net_1=np.array([[-0.5]], dtype=np.float32),
        net_2=np.array([[[2.0]]], dtype=np.float32),
        net_3=np.array([[0.0]], dtype=np.float32),
        net_4=np.array([[[3.0]]], dtype=np.float32),
        net_5=np.array([[0.5]], dtype=np.float32),
    )


def chance(
    asked: str, cached: str, text: str = "the weather", other: str = "the weather", cosine: float = 0.95
) -> float:
    verifier = Verifier(model())
    cosines: Floats = np.array([cosine], dtype=np.float32)
    return float(verifier.probabilities(verifier.parse(text), asked, [(verifier.parse(other), cached)], cosines)[0])


def test_the_stricter_category_gives_the_probability() -> None:
    assert chance("easy", "strict") == chance("strict", "easy") == chance("strict", "strict") < chance("easy", "easy")


def test_a_category_that_is_not_known_is_the_unknown_one() -> None:
    assert chance("easy", "unheard of") == chance("unheard of", "new") < chance("easy", "easy")


def test_a_tree_sends_rows_left_up_to_its_threshold() -> None:
    rows = np.zeros((3, 2 + len(INPUTS)), dtype=np.float32)
    rows[:, 2] = (0.5, 0.9, 0.91)

    assert forest_score(model(), rows, model().roots, model().base).tolist() == [-0.5, -0.5, 1.5]


def test_a_category_with_trees_of_its_own_is_scored_by_them_too() -> None:
    rows = np.zeros((3, 2 + len(INPUTS)), dtype=np.float32)
    rows[:, 2] = 0.95

    assert own_score(model(), rows, np.array([0, 1, 2])).tolist() == [0.0, 1.25, 0.0]


def test_the_net_cuts_what_is_below_nothing_and_what_is_far() -> None:
    rows = np.zeros((3, 2 + len(INPUTS)), dtype=np.float32)
    rows[:, 2] = (0.2, 1.0, 90.0)

    assert net_score(model(), rows).tolist() == [0.5, 3.5, 27.5]


def test_no_score_rescues_a_vetoed_pair() -> None:
    assert chance("easy", "easy", "turn 5 into 20", "turn 20 into 5") == 0.0


def test_each_side_with_a_number_that_the_other_lacks_is_another_question() -> None:
    assert chance("easy", "easy", "activate a card of kind 0", "activate a card of kind 1") == 0.0
    assert chance("easy", "easy", "activate a card of kind 1", "activate a card") > 0.0


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("How do I turn on auto-renewal?", "How do I turn off auto-renewal?"),
        ("sort the lines ascending", "sort the lines descending"),
    ],
)
def test_opposites_are_other_questions_however_alike_they_sound(asked: str, cached: str) -> None:
    assert chance("easy", "easy", asked, cached) == chance("easy", "easy", cached, asked) == 0.0
    assert chance("easy", "easy", asked, asked) > 0.0


def test_no_candidates_have_no_probabilities() -> None:
    verifier = Verifier(model())

    found = verifier.probabilities(verifier.parse("a"), "easy", [], np.empty(0, dtype=np.float32))

    assert found.shape == (0,)


def test_a_saved_model_is_read_as_it_was(tmp_path: Path) -> None:
    model().save(tmp_path / "m.npz")

    read = Model.load(tmp_path / "m.npz")

    assert (read.categories, read.embedder, read.base, read.depth) == (("easy", "strict"), "e", 0.5, 1)
    assert np.array_equal(read.linear, model().linear)
    assert np.array_equal(read.threshold, model().threshold)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.npz").write_text("hello")
    with pytest.raises(VerifierError, match="no verifier"):
        Model.load(tmp_path / "m.npz")
    with pytest.raises(VerifierError, match="no verifier"):
        Model.load(tmp_path / "none.npz")


def test_rarities_of_another_size_are_refused() -> None:
    with pytest.raises(VerifierError, match="rarities"):
        Verifier(replace(model(), rarity=np.ones(3, dtype=np.float32)))


def test_inputs_are_cosine_margin_crowd_and_evidence() -> None:
    assert len(INPUTS) == SIZE + 3
