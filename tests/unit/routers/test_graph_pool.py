"""Pure parts of the graph's pool of models."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from routers.graph_nodes import SKILL_STRENGTH, blended
from routers.graph_pool import biases


@given(usual=st.floats(0.02, 0.98), seed=st.integers(0, 1000), spread=st.floats(0, 3))
def test_biases_make_the_mean_forecast_the_usual_score(usual: float, seed: int, spread: float) -> None:
    deviations = np.random.default_rng(seed).normal(0, spread, (200, 1))

    found = biases(deviations, np.array([usual]))

    assert abs(float((1 / (1 + np.exp(-(found + deviations)))).mean()) - usual) < 1e-3


def test_an_edge_without_outcomes_is_its_prior() -> None:
    nothing, prior = np.zeros((1, 2)), np.array([[0.1, -0.2]])

    skill, _, reliability = blended(nothing, nothing, nothing, prior, None)

    assert np.allclose(skill, prior)
    assert (reliability == 0).all()


def test_many_outcomes_outweigh_the_prior() -> None:
    mass = np.full((1, 1), 1e6)

    skill, _, reliability = blended(mass, 0.3 * mass, mass, np.array([[-1.0]]), None)

    assert skill[0, 0] > 0.29 and reliability[0, 0] > 1 - SKILL_STRENGTH / 1e5
