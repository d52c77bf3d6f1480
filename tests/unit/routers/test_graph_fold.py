"""Where a query lies in the graph."""

from __future__ import annotations

import numpy as np
import pytest

from routers.artifact import ArtifactError
from routers.graph_fold import Places, Spread, gathered
from routers.inputs import FACTS, Floats, Inputs

AXES = np.eye(3, dtype=np.float32)


def places() -> Places:
    spread = Spread(np.zeros(len(FACTS), dtype=np.float32), np.ones(len(FACTS), dtype=np.float32))
    mass = np.array([1, 4, 1], dtype=np.float32)
    return Places(spread, AXES[:2], AXES, mass, near=0.9, sharpness=12.0, reach=15.0, doubt=3.0)


def asked(*embeddings: Floats) -> Inputs:
    count = len(embeddings)
    return Inputs(np.array(embeddings), np.zeros(count, np.float32), np.full((count, len(FACTS)), 9.0, np.float32))


def test_a_query_belongs_to_the_skill_that_it_lies_at() -> None:
    membership = places().membership(asked(AXES[0], AXES[1]))

    assert np.allclose(membership.sum(axis=1), 1)
    assert membership[0, 0] > 0.99 and membership[1, 1] > 0.99


def test_attention_grows_with_mass_and_vanishes_far_away() -> None:
    attention = places().attention(np.array([[1, 1, 0], [-1, -1, -1]], dtype=np.float32))

    assert attention[0, 1] == pytest.approx(4 * attention[0, 0])
    assert attention[0].sum() < 1
    assert attention[1].sum() < 1e-6


def test_outlandish_facts_are_cut() -> None:
    columns = places().spread.columns(asked(AXES[0]))

    assert columns.shape == (1, 3 + len(FACTS))
    assert np.allclose(columns[0, 3:], 0.4)


def test_places_survive_an_artifact() -> None:
    again = Places.from_arrays(places().arrays())

    assert again.reach == 15.0 and again.doubt == 3.0
    assert np.array_equal(again.fine, places().fine)


def test_places_of_other_dimensions_are_refused() -> None:
    with pytest.raises(ArtifactError, match="do not fit"):
        Places.from_arrays({**places().arrays(), "skills": np.eye(4, dtype=np.float32)})


def test_rows_are_summed_by_label() -> None:
    sums = gathered(np.array([2, 0, 2]), np.array([[1.0], [2.0], [3.0]]), 4)

    assert sums[:, 0].tolist() == [2.0, 0.0, 4.0, 0.0]
