"""Matrix factorisation."""

from __future__ import annotations

import numpy as np

from routers.kinds import matrix_factorization
from routers.linear import sigmoid


def fitted(rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(400, 6))
    logits = columns @ np.outer(rng.normal(size=6), [2.0, -2.0, 1.0, 0.0, 1.0]) + 0.5
    scores = (rng.random(logits.shape) < sigmoid(logits)).astype(np.float64)
    weights, bias = matrix_factorization.fitted(columns, scores, rank, 1e-4, np.random.default_rng(1))
    return weights, bias, np.asarray(sigmoid(columns @ weights + bias) - sigmoid(logits))


def test_one_planted_trait_is_found() -> None:
    weights, bias, errors = fitted(1)

    assert np.linalg.matrix_rank(weights) == 1
    assert np.abs(errors).mean() < 0.06
    assert bias.shape == (5,)


def test_more_traits_do_little_harm() -> None:
    _, _, errors = fitted(4)

    assert np.abs(errors).mean() < 0.1
