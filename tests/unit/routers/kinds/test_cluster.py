"""Clusters of queries."""

from __future__ import annotations

import numpy as np

from routers.kinds import cluster
from routers.kinds.cluster import ClusterRouter
from routers.training.lesson import lesson_of
from tests.contract.planted import outcomes


def blobs() -> np.ndarray:
    rng = np.random.default_rng(0)
    points = np.repeat(np.eye(3, 8), 20, axis=0) + rng.normal(0, 0.05, (60, 8))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


def test_three_heaps_are_three_clusters() -> None:
    centres, place = cluster._k_means(blobs(), 3, np.random.default_rng(1))

    assert [len(set(place[start : start + 20])) for start in (0, 20, 40)] == [1, 1, 1]
    assert len(set(place.tolist())) == 3
    assert np.allclose(np.linalg.norm(centres, axis=1), 1)


def test_one_cluster_gives_the_means() -> None:
    data = outcomes()

    arrays = ClusterRouter.learn(lesson_of(data), {"clusters": 1, "nearest": 1}, 0)

    scores, lengths = ClusterRouter.told(arrays, data.inputs)
    assert np.allclose(scores, data.score.mean(axis=0), atol=1e-5)
    assert np.allclose(lengths, 0, atol=1e-4)


def test_few_queries_make_few_clusters() -> None:
    lesson = lesson_of(outcomes().rows(np.arange(9)))

    arrays = ClusterRouter.learn(lesson, {"clusters": 64, "nearest": 4}, 0)

    assert len(arrays["centres"]) == 2 and arrays["nearest"] == 2


def test_all_nearest_clusters_are_taken_together() -> None:
    data = outcomes()
    lesson = lesson_of(data)

    arrays = ClusterRouter.learn(lesson, {"clusters": 4, "nearest": 4}, 0)

    scores, _ = ClusterRouter.told(arrays, data.inputs)
    assert np.allclose(scores, scores[0])
