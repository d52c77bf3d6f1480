"""The bandit on a world of known truth: learns, follows drift, keeps its prior where nothing is said."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from policies.catalogue import Endpoint, ModelCard
from routers.artifact import Artifact, ArtifactError, read_artifact
from routers.bandit_state import Tally, added, lesson
from routers.decision import Candidate, Features, Query
from routers.find import router_class
from routers.kinds.bandit import Bandit, Beliefs
from routers.learned import LearnedRouter
from routers.training.dataset import Dataset, Indices
from routers.training.simulator import Simulation, make_world, simulate

WORLD = make_world(models=6, seed=3)


def prior_of(kind: str, train: Dataset) -> LearnedRouter:
    found = router_class(kind)
    assert issubclass(found, LearnedRouter)
    return found.fit(train)


@cache
def bandit() -> Bandit:
    """Upon a ridge that knows the world as it was."""
    train = simulate(WORLD, 400, 1).dataset
    return Bandit.upon(prior_of("ridge", train), train, 4, Beliefs(half_life_s=2000.0, slope_std=0.04))


def fresh() -> Bandit:
    return Bandit.from_artifact(bandit().artifact)


def teach(learner: Bandit, seen: Simulation, chosen: Indices) -> None:
    """One feedback for each row, on the model chosen, a second apart."""
    prior = learner.prior.predict(seen.dataset.inputs, seen.dataset.models).quality
    contexts = learner.contexts(seen.dataset.inputs.embeddings)
    state: dict[str, Tally] = {}
    for row, model in enumerate(chosen.tolist()):
        residual = float(seen.dataset.score[row, model] - prior[row, model])
        state = added(state, {seen.dataset.models[model].id: lesson(contexts[row], residual, row)}, 2000.0)
    learner.adopt(state, float(len(chosen)))


def error(router: LearnedRouter, seen: Simulation) -> float:
    """Mean square error of the forecasts against the true chances."""
    told = router.predict(seen.dataset.inputs, seen.dataset.models).quality
    return float(((told - seen.quality) ** 2).mean())


def test_without_feedback_it_says_what_its_prior_says() -> None:
    seen = simulate(WORLD, 50, 2).dataset

    told, prior = (one.predict(seen.inputs, seen.models) for one in (bandit(), bandit().prior))

    assert told.quality == pytest.approx(prior.quality, abs=1e-6)
    assert np.array_equal(told.tokens, prior.tokens)


def test_feedback_brings_forecasts_nearer_to_a_world_that_has_drifted() -> None:
    drifted, learner = WORLD.drifted(5, size=1.5), fresh()
    later, test = simulate(drifted, 1500, 3), simulate(drifted, 500, 4)

    teach(learner, later, np.random.default_rng(0).integers(0, 6, 1500))

    assert error(learner, test) < 0.75 * error(learner.prior, test)


def test_bounds_hold_and_shrink_with_feedback() -> None:
    learner, seen = fresh(), simulate(WORLD, 600, 6)
    before = learner.predict(seen.dataset.inputs, seen.dataset.models)

    teach(learner, seen, np.zeros(600, dtype=np.intp))
    after = learner.predict(seen.dataset.inputs, seen.dataset.models)

    narrower = (after.high - after.low).mean(axis=0) / (before.high - before.low).mean(axis=0)
    assert narrower[0] < 1 and narrower[1:] == pytest.approx(1, abs=1e-4)
    assert ((after.low <= after.quality) & (after.quality <= after.high)).all()


def test_few_models_that_a_floor_lets_through_are_in_truth_under_it() -> None:
    world = make_world(models=6, seed=1, hardness=0.0)
    train, seen = simulate(world, 400, 1).dataset, simulate(world, 800, 2)
    low = Bandit.upon(prior_of("ridge", train), train).predict(seen.dataset.inputs, seen.dataset.models).low

    for floor in (0.5, 0.6, 0.7, 0.8):
        through = low >= floor
        assert through.sum() > 100
        assert (seen.quality[through] < floor).mean() < 0.05


def test_what_fades_away_leaves_the_prior() -> None:
    learner, seen = fresh(), simulate(WORLD, 200, 7)
    teach(learner, seen, np.zeros(200, dtype=np.intp))
    state = learner._state

    learner.adopt(state, 1e6)

    assert learner.predict(seen.dataset.inputs, seen.dataset.models).quality == pytest.approx(
        learner.prior.predict(seen.dataset.inputs, seen.dataset.models).quality, abs=1e-3
    )


def test_a_model_that_the_prior_does_not_know_is_learned_faster_than_one_it_knows() -> None:
    learner = fresh()
    stranger = ModelCard(id="stranger", context_tokens=1000, price_in_usd_per_mtok=1, price_out_usd_per_mtok=1)
    seen = simulate(WORLD, 20, 8).dataset
    known = seen.models[0]
    before = learner.predict(seen.inputs, [stranger, known]).quality.mean(axis=0)

    lessons = [lesson(np.array([1.0, 0, 0, 0, 0]), -0.4, 0.0) for _ in range(10)]
    state: dict[str, Tally] = {}
    for one in lessons:
        state = added(state, {"stranger": one, known.id: one}, 2000.0)
    learner.adopt(state, 0.0)

    moved = before - learner.predict(seen.inputs, [stranger, known]).quality.mean(axis=0)
    assert moved[0] > moved[1] > 0


def test_an_artifact_serves_as_what_was_saved(tmp_path: object) -> None:
    seen = simulate(WORLD, 30, 9).dataset
    artifact = bandit().artifact
    artifact.save(tmp_path / "bandit")  # type: ignore[operator] # pytest gives a Path

    loaded = Bandit.from_artifact(read_artifact(tmp_path / "bandit"))  # type: ignore[operator]

    assert loaded.learner == bandit().learner
    assert np.array_equal(
        loaded.predict(seen.inputs, seen.models).quality, bandit().predict(seen.inputs, seen.models).quality
    )


def test_any_learned_artifact_can_be_learned_upon_by_levels_alone() -> None:
    prior = bandit().prior
    seen = simulate(WORLD, 30, 10).dataset

    plain = Bandit.from_artifact(prior.artifact)
    plain.adopt({seen.models[0].id: lesson(np.ones(1), -0.5, 0.0)}, 0.0)

    assert plain.dimensions == 1
    told = plain.predict(seen.inputs, seen.models).quality - prior.predict(seen.inputs, seen.models).quality
    assert (told[:, 0] <= 0).all() and told[:, 0].min() < 0 and told[:, 1:] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"prior": "rules"}, "must be a kind that learns"),
        ({"prior": "bandit"}, "must be a kind that learns"),
        ({"prior": "mean", "half_life": 1}, "unknown or no number"),
        ({"prior": "mean", "noise": 0}, "must be above 0"),
        ({"prior": "mean", "noise": "loud"}, "noise|no number|could not convert"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Bandit.fit(simulate(WORLD, 60, 11).dataset, settings=settings)


def test_an_artifact_without_its_prior_is_refused() -> None:
    artifact: Artifact = replace(bandit().artifact, facts={})
    with pytest.raises(ArtifactError, match="name no prior"):
        Bandit.from_artifact(artifact)


def test_fifty_candidates_are_forecast_fast_and_carry_what_late_feedback_needs() -> None:
    learner = fresh()
    cards = [replace_id(WORLD.cards[place % 6], f"m{place}") for place in range(50)]
    pool = [
        Candidate(Endpoint(id=f"e{place}", model=card.id, provider="local"), card, 500.0)
        for place, card in enumerate(cards)
    ]
    seen = simulate(WORLD, 1, 12).dataset
    asked = Query("q", Features(tokens=50, chars=200), embedding=seen.inputs.embeddings[0])
    told = learner.forecast(asked, pool)

    took = []
    for _ in range(50):
        began = time.perf_counter()
        learner.forecast(asked, pool)
        took.append(time.perf_counter() - began)

    assert min(took) < 0.001
    assert all(one.learner == learner.learner and one.eagerness for one in told)
    prior = learner.prior.forecast(asked, pool)
    assert [one.prior_quality for one in told] == pytest.approx([one.quality for one in prior])


def replace_id(card: ModelCard, name: str) -> ModelCard:
    return card.model_copy(update={"id": name})
