"""The published GraphRouter and its folding."""

from __future__ import annotations

import numpy as np
import pytest

from routers.kinds import graphrouter
from routers.kinds.graphrouter import GraphRouter
from routers.training.lesson import Lesson, lesson_of
from tests.contract.planted import fitted, outcomes

PERFORMANCE = {"score": 1.0, "cost": 0.0, "steps": 10}


def lesson() -> Lesson:
    return lesson_of(outcomes())


def test_the_folded_scores_are_the_network_s() -> None:
    import torch

    from routers.training.graphrouter_network import Course, folded, train

    graph = graphrouter._graph(lesson(), PERFORMANCE)
    network = train(graph, Course(20), seed=3).eval()
    with torch.no_grad():
        models = network.answering(graph, torch.ones(graph.edges.shape[1], dtype=torch.bool))
        whole = torch.sigmoid((network.asked(graph.queries)[:, None] * models).mean(dim=2)).numpy()

    weights, bias = folded(network, graph)

    assert np.allclose(1 / (1 + np.exp(-(outcomes().inputs.embeddings @ weights + bias))), whole, atol=1e-5)


def test_hidden_edges_send_nothing() -> None:
    import torch

    from routers.training.graphrouter_network import Course, train

    graph = graphrouter._graph(lesson(), PERFORMANCE)
    network = train(graph, Course(2), seed=0).eval()
    visible = graph.edges[1] != 0

    with torch.no_grad():
        alone = network.answering(graph, visible)[0] - network.answering(graph, torch.zeros_like(visible))[0]

    assert alone.abs().max() < 1e-5


def test_the_label_is_the_first_of_the_best() -> None:
    taught = lesson()
    graph = graphrouter._graph(taught, PERFORMANCE)

    best = graph.best.numpy().reshape(taught.score.shape)

    assert (best.sum(axis=1) == 1).all()
    assert (best.argmax(axis=1) == taught.score.argmax(axis=1)).all()


def test_cost_counts_as_the_trade_off_says() -> None:
    taught = lesson()
    cheapest = taught.cost_usd.argmin(axis=1)

    rewards = graphrouter._rewards(taught, {"score": 0.0, "cost": 1.0})

    assert (rewards.argmax(axis=1) == cheapest).all()
    assert rewards.max() == pytest.approx(0) and rewards.min() == pytest.approx(-1)


def test_what_was_not_observed_is_never_the_best() -> None:
    taught = lesson()
    taught.score[5:, 1] = np.nan

    graph = graphrouter._graph(taught, PERFORMANCE)

    assert graph.edges[0][graph.edges[1] == 1].tolist() == [0, 1, 2, 3, 4]
    assert graph.best.sum() == len(taught)


def test_the_trade_off_is_kept_in_the_artifact() -> None:
    router = GraphRouter.fit(outcomes(), settings={"score": 0.5, "cost": 0.5, "steps": 10})

    assert router.artifact.facts["settings"] == {"score": 0.5, "cost": 0.5, "steps": 10}


def test_labels_change_nothing() -> None:
    router = fitted("graphrouter")

    assert router.with_outcomes(outcomes()) is router
