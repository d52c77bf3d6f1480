"""The graph router: specialists, novelty, new models, and what it is folded from."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from routers.artifact import ArtifactError, read_artifact
from routers.kinds.graph import GraphRouter
from routers.token_forecasts import lift
from routers.training.dataset import Dataset
from routers.training.graph.settings import Settings
from routers.training.graph.train import learn
from routers.training.graph.unfolded import unfolded
from routers.training.simulator import make_world, simulate
from tests.unit.routers.kinds.worlds import hits, specialists

QUICK = {"epochs": 3, "nodes": 64, "skills": 6}
WORLD = make_world(models=8, skills=4, dimensions=16, card_signal=1.0)


@cache
def known() -> Dataset:
    return simulate(WORLD, 300, seed=1).dataset


@cache
def fitted() -> GraphRouter:
    return GraphRouter.fit(known(), settings=QUICK)


@cache
def newcomers() -> tuple[Dataset, Dataset]:
    """Questions to learn two new models from, and questions to judge their forecasts on."""
    world = WORLD.with_new_models(2, seed=3)
    columns = [8, 9]
    return simulate(world, 64, seed=5).dataset.columns(columns), simulate(world, 400, seed=6).dataset.columns(columns)


def brier(router: GraphRouter, data: Dataset) -> float:
    return float(((router.predict(data.inputs, data.models).quality - data.score) ** 2).mean())


def test_the_right_specialist_is_found() -> None:
    unseen = specialists(300, 2)

    told = GraphRouter.fit(specialists(400, 1), settings=QUICK | {"own": 1.0}).predict(unseen.inputs, unseen.models)

    assert hits(told.quality, unseen) > 0.8
    assert float(unseen.score.mean(axis=0).max()) < 0.6


def test_folded_arrays_say_what_the_network_says() -> None:
    unseen = simulate(WORLD, 60, seed=9).dataset
    made = learn(known(), replace(Settings(), epochs=2, nodes=64, skills=6), seed=0)
    router = fitted()
    artifact = replace(router.artifact, arrays={**made.graph.arrays(), "gate": np.array([5.0, -3.0, -2.0])})

    told = GraphRouter.from_artifact(artifact).predict(unseen.inputs, known().models)

    quality, median, high = unfolded(made.graph, made.members, unseen.inputs)
    order = [made.graph.ids.index(card.id) for card in known().models]
    assert np.abs(told.quality - quality[:, order]).max() < 1e-5
    assert np.allclose(told.tokens, median[:, order], rtol=1e-4)
    assert np.allclose(told.tokens_high, high[:, order], rtol=1e-4)


def test_far_from_all_queries_every_model_is_as_usual() -> None:
    narrow = {**fitted().artifact.arrays, "gate": np.array([5.0, 0.999, 0.9999])}
    router = GraphRouter.from_artifact(replace(fitted().artifact, arrays=narrow))

    told = router.predict(known().inputs.rows(slice(0, 5)), known().models)

    assert (told.trust == 0).all()
    assert np.array_equal(told.quality, np.broadcast_to(told.usual, told.quality.shape))
    assert np.allclose(told.tokens, told.usual_tokens * np.exp(lift(np.log(told.usual_tokens))))


def test_what_was_learned_from_is_trusted() -> None:
    told = fitted().predict(known().inputs, known().models)

    assert told.trust.mean() > 0.9
    assert (told.low <= told.quality).all() and (told.quality <= told.high).all()
    assert (told.tokens <= told.tokens_high).all()


def test_expected_lengths_add_up_to_what_is_written() -> None:
    unseen = simulate(WORLD, 400, seed=11).dataset

    told = fitted().predict(unseen.inputs, unseen.models)

    written = float(np.nansum(unseen.output_tokens))
    assert written / float(told.tokens_mean.sum()) == pytest.approx(1, abs=0.1)
    assert told.tokens.sum() < told.tokens_mean.sum()


def test_outcomes_with_gaps_are_learned_from() -> None:
    data, unseen = specialists(400, 1), specialists(300, 2)
    kept = np.random.default_rng(0).random(data.score.shape) < 0.7

    told = GraphRouter.fit(data.only(kept), settings=QUICK | {"own": 1.0}).predict(unseen.inputs, unseen.models)

    assert hits(told.quality, unseen) > 0.75
    assert np.abs(told.usual - data.score.mean(axis=0)).max() < 0.1


def test_without_embeddings_every_model_is_as_usual() -> None:
    inputs = known().inputs.rows(slice(0, 3))

    told = fitted().predict(replace(inputs, embeddings=np.zeros_like(inputs.embeddings)), known().models)

    assert (told.trust == 0).all()
    assert np.allclose(told.usual, known().score.mean(axis=0), atol=1e-5)


def test_a_new_model_is_forecast_from_its_card_and_better_with_labels() -> None:
    labels, unseen = newcomers()

    few = brier(fitted().with_outcomes(labels.rows(np.arange(16))), unseen)
    many = brier(fitted().with_outcomes(labels), unseen)

    assert many < few < brier(fitted(), unseen)


def test_labels_of_new_models_leave_the_others_alone() -> None:
    labels, _ = newcomers()

    taught = fitted().with_outcomes(labels)

    before, after = (one.predict(known().inputs, known().models).quality for one in (fitted(), taught))
    assert np.allclose(before, after, atol=1e-6)
    assert taught.artifact.facts["models"][-2:] == [card.id for card in labels.models]


def test_good_outcomes_raise_a_known_model() -> None:
    some = known().rows(np.arange(50)).columns([0])
    praised = replace(some, score=np.ones_like(some.score))

    before = fitted().predict(known().inputs, known().models[:1])
    after = fitted().with_outcomes(praised).predict(known().inputs, known().models[:1])

    assert after.usual[0] > before.usual[0]
    assert after.quality.mean() > before.quality.mean()


def test_what_was_taught_survives_saving(tmp_path: Path) -> None:
    labels, unseen = newcomers()
    taught = fitted().with_outcomes(labels)

    taught.artifact.save(tmp_path / "graph")

    read = GraphRouter.from_artifact(read_artifact(tmp_path / "graph"))
    before, after = (one.predict(unseen.inputs, unseen.models).quality for one in (taught, read))
    assert np.allclose(before, after, atol=1e-6)


def test_the_order_of_candidates_changes_nothing() -> None:
    inputs, cards = known().inputs, known().models

    whole = fitted().predict(inputs, cards).quality
    some = fitted().predict(inputs, (cards[5], cards[2])).quality

    assert np.allclose(some, whole[:, [5, 2]], atol=1e-6)


def test_the_same_seed_makes_the_same_artifact() -> None:
    again = GraphRouter.fit(known(), settings=QUICK)
    other = GraphRouter.fit(known(), settings=QUICK, seed=1)

    assert again.artifact.sha256 == fitted().artifact.sha256 != other.artifact.sha256


@pytest.mark.parametrize("name", ["skills", "memory.own", "pool.table", "net.first"])
def test_an_artifact_whose_arrays_do_not_fit_is_refused(name: str) -> None:
    arrays = dict(fitted().artifact.arrays)
    arrays[name] = arrays[name][..., :-1] if arrays[name].ndim < 3 else arrays[name][:, :-1]

    with pytest.raises(ArtifactError):
        GraphRouter.from_artifact(replace(fitted().artifact, arrays=arrays))


@pytest.mark.parametrize(("settings", "word"), [({"colour": 1}, "colour"), ({"epochs": 0}, "epochs")])
def test_a_setting_that_cannot_be_is_named(settings: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        GraphRouter.fit(known(), settings=settings)
