"""Nearest neighbours, exactly."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.kinds import knn
from routers.kinds.knn import NeighbourRouter
from routers.training.lesson import lesson_of
from routers.training.simulator import make_world, simulate
from tests.contract.planted import outcomes


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 700), st.integers(1, 40), st.booleans())
def test_the_nearest_are_the_k_greatest(seed: int, total: int, k: int, coarse: bool) -> None:
    alike = np.random.default_rng(seed).normal(size=(1, total)).astype(np.float32)
    alike = np.round(alike) if coarse else alike
    k = min(k, total)

    near = knn._nearest(alike, k)

    assert near.shape == (1, k) and len(set(near[0].tolist())) == k
    assert np.array_equal(np.sort(alike[0, near[0]]), np.sort(alike[0])[total - k :])


def test_one_query_is_answered_as_many_are() -> None:
    data = outcomes()
    arrays = NeighbourRouter.learn(lesson_of(data), {"k": 7, "sharpness": 8.0}, 0)
    many, lengths = NeighbourRouter.told(arrays, data.inputs)

    one, length = NeighbourRouter.told(arrays, data.inputs.rows(slice(5, 6)))

    assert np.allclose(one[0], many[5], atol=1e-5) and np.allclose(length[0], lengths[5], atol=1e-4)


def test_all_neighbours_of_one_weight_give_the_means() -> None:
    data = outcomes()

    arrays = NeighbourRouter.learn(lesson_of(data), {"k": 10_000, "sharpness": 0.0}, 0)

    scores, _ = NeighbourRouter.told(arrays, data.inputs)
    assert np.allclose(scores, data.score.mean(axis=0), atol=1e-4)


def test_the_nearest_query_alone_gives_its_own_scores() -> None:
    data = outcomes()

    arrays = NeighbourRouter.learn(lesson_of(data), {"k": 1, "sharpness": 1.0}, 0)

    scores, _ = NeighbourRouter.told(arrays, data.inputs)
    assert np.allclose(scores, data.score, atol=1e-4)


def test_neighbours_that_were_not_judged_leave_the_usual() -> None:
    data = outcomes()
    lesson = lesson_of(data)
    lesson.score[10:, 2] = np.nan

    arrays = NeighbourRouter.learn(lesson, {"k": 1, "sharpness": 1.0}, 0)

    scores, _ = NeighbourRouter.told(arrays, data.inputs)
    assert np.allclose(scores[20:, 2], np.nanmean(lesson.score[:, 2]), atol=1e-4)


def test_among_many_keys_nearly_all_of_the_nearest_are_found() -> None:
    data = simulate(make_world(dimensions=64, skills=20), 8000, seed=0).dataset
    arrays = NeighbourRouter.learn(lesson_of(data), {"k": 40, "sharpness": 1.0}, 0)
    asked = (data.inputs.embeddings[:50] @ arrays["axes"]).astype(np.float32)
    exact = np.argsort(-data.inputs.embeddings[:50] @ data.inputs.embeddings.T, axis=1)[:, :40]

    found = [knn._neighbours(arrays, asked[place : place + 1])[0][0] for place in range(50)]

    shared = [len(set(near) & set(whole)) / 40 for near, whole in zip(found, exact, strict=True)]
    assert arrays["coarse"].shape[1] < arrays["keys"].shape[1]
    assert arrays["keys"].dtype == arrays["rests"].dtype == np.int8
    assert np.mean(shared) > 0.9


def test_many_queries_are_kept_on_fewer_axes() -> None:
    lesson = lesson_of(outcomes())

    few = knn._axes(lesson.inputs.embeddings.astype(np.float64), 4)

    assert few.shape == (16, 4)
    assert np.allclose(few.T @ few, np.eye(4), atol=1e-9)


def test_bytes_lose_little() -> None:
    values = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32) * [1, 10, 0]

    packed, scale = knn._packed(values.astype(np.float32), small=True)

    assert packed.dtype == np.int8
    assert np.abs(packed * scale - values).max() < 0.2
