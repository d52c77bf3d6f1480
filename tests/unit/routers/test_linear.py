"""Ridge regression and its folding."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.inputs import FACTS, Inputs
from routers.linear import Design, linear, ridge, sigmoid


def inputs(count: int, seed: int = 0) -> Inputs:
    rng = np.random.default_rng(seed)
    shapes = (count, 6), (count,), (count, len(FACTS))
    return Inputs(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))


def test_folded_arrays_say_what_the_design_matrix_said() -> None:
    asked, rng = inputs(30), np.random.default_rng(1)
    design = Design.of(asked)
    weights, bias = rng.normal(size=(6 + len(FACTS), 3)), rng.normal(size=3)

    served = linear(design.folded(weights, bias), inputs(9, seed=2))

    assert np.allclose(served, design.matrix(inputs(9, seed=2)) @ weights + bias, atol=1e-4)
    assert served.dtype == np.float32


def test_a_fact_that_never_changes_weighs_nothing() -> None:
    asked = Inputs(inputs(8).embeddings, inputs(8).tokens, np.ones((8, len(FACTS)), np.float32))

    assert (Design.of(asked).matrix(inputs(8))[:, 6:] == 0).all()


def test_a_plane_is_found_again() -> None:
    rng = np.random.default_rng(0)
    columns, truth = rng.normal(size=(200, 4)), rng.normal(size=(4, 2))

    weights, bias = ridge(columns, columns @ truth + [3.0, -1.0], 1e-6)

    assert np.allclose(weights, truth, atol=1e-4) and np.allclose(bias, [3, -1], atol=1e-4)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.floats(0.1, 100))
def test_no_weights_near_by_do_better(seed: int, penalty: float) -> None:
    rng = np.random.default_rng(seed)
    columns, wanted = rng.normal(size=(20, 3)), rng.normal(size=(20, 1))

    def loss(weights: np.ndarray, bias: np.ndarray) -> float:
        return float(((columns @ weights + bias - wanted) ** 2).sum() + penalty * (weights**2).sum())

    weights, bias = ridge(columns, wanted, penalty)

    least = loss(weights, bias)
    for _ in range(10):
        assert least <= loss(weights + rng.normal(0, 0.01, weights.shape), bias + rng.normal(0, 0.01)) + 1e-9


def test_what_was_not_observed_teaches_nothing() -> None:
    rng = np.random.default_rng(0)
    columns, wanted = rng.normal(size=(40, 3)), rng.normal(size=(40, 3))
    wanted[10:, 1], wanted[:, 2] = np.nan, np.nan

    weights, bias = ridge(columns, wanted, 1.0)

    alone, lone_bias = ridge(columns[:10], wanted[:10, 1:2], 1.0)
    assert np.allclose(weights[:, 1], alone[:, 0]) and np.isclose(bias[1], lone_bias[0])
    assert (weights[:, 2] == 0).all() and bias[2] == 0


def test_the_sigmoid_overflows_nowhere() -> None:
    told = sigmoid(np.array([-1e4, 0.0, 1e4], dtype=np.float32))

    assert told.tolist() == [0.0, 0.5, 1.0] and told.dtype == np.float32
