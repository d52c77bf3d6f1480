"""The gate: familiar queries keep their trust, others lose it, and outcomes can only open it."""

from __future__ import annotations

import numpy as np
import pytest

from routers.training.novelty import (
    WIDTH,
    fit_gate,
    leave_clusters_out,
    left_out_similarity,
    spherical_clusters,
    tune_gate,
)

CENTRES = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 6)))[0].T.astype(np.float32)


def queries(count: int, seed: int, among: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around some of the centres, and their questions' numbers."""
    rng = np.random.default_rng(seed)
    vectors = CENTRES[rng.integers(0, among, count)] + rng.normal(0, 0.15, (count, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), np.arange(count)


def strange(count: int) -> np.ndarray:
    rng = np.random.default_rng(9)
    vectors = CENTRES[5] + rng.normal(0, 0.15, (count, 16))
    unit: np.ndarray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def test_queries_like_those_known_are_trusted_and_those_of_a_new_kind_are_not() -> None:
    gate = fit_gate(*queries(600, 1))
    assert gate.trust(queries(300, 2)[0]).mean() > 0.9
    assert gate.trust(strange(100)).mean() < 0.05


def test_anchors_are_bounded_and_the_same_for_the_same_seed() -> None:
    vectors, groups = queries(600, 1)
    one, other = (fit_gate(vectors, groups, seed=3, most=100) for _ in range(2))
    assert len(one.anchors) == 100 and np.array_equal(one.anchors, other.anchors)
    assert gate_is_open(one, queries(300, 2)[0])


def gate_is_open(gate: object, vectors: np.ndarray) -> bool:
    return bool(gate.trust(vectors).mean() > 0.8)  # type: ignore[attr-defined] # any gate


def test_the_same_question_twice_does_not_make_itself_familiar() -> None:
    vectors, groups = queries(60, 1)
    doubled = fit_gate(np.concatenate([vectors] * 2), np.concatenate([groups] * 2), neighbour=1)
    assert doubled.high == pytest.approx(fit_gate(vectors, groups, neighbour=1).high, abs=1e-6)


def test_gains_on_left_out_clusters_open_the_gate_and_losses_leave_it() -> None:
    vectors, groups = queries(400, 1)
    gate = fit_gate(vectors, groups)
    near = left_out_similarity(vectors, groups, gate)
    opened = tune_gate(gate, near, np.full(400, 0.1))
    assert opened.high < gate.high and opened.low == pytest.approx(opened.high - WIDTH)
    assert tune_gate(gate, near, np.full(400, -0.1)).high == gate.high
    assert tune_gate(gate, near, np.full(400, np.nan)) is gate


def test_what_one_cluster_alone_gains_does_not_open_the_gate() -> None:
    vectors, groups = queries(400, 1)
    gate = fit_gate(vectors, groups)
    near, parts = left_out_similarity(vectors, groups, gate), np.arange(400) % 8
    lucky = np.where(parts == 3, 1.0, 0.0)
    assert tune_gate(gate, near, lucky).high < gate.high
    assert tune_gate(gate, near, lucky, parts).high == gate.high
    assert tune_gate(gate, near, np.full(400, 0.1), parts).high < gate.high


def test_clusters_are_found_and_left_out_whole() -> None:
    vectors, groups = queries(300, 4)
    label = spherical_clusters(vectors, 5, seed=1)
    assert len(np.unique(label)) == 5
    for kept, out in leave_clusters_out(vectors, groups, 5, seed=1):
        assert not set(kept) & set(out)
        assert float((vectors[out] @ vectors[out].T).mean()) > 0.5


def test_without_embeddings_no_gate_can_be_fitted() -> None:
    with pytest.raises(ValueError, match="no query has an embedding"):
        fit_gate(np.zeros((4, 8), np.float32), np.arange(4))


def test_equal_vectors_do_not_break_the_clusters() -> None:
    label = spherical_clusters(np.full((6, 4), 0.5, np.float32), 3)
    assert label.shape == (6,)
