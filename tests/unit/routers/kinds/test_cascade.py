"""The kind: a base router's forecasts, a policy for rounds, both in one artifact."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from policies.catalogue import Endpoint
from routers.artifact import ArtifactError, read_artifact
from routers.cascade_policy import Step
from routers.cascade_value import sigmoid
from routers.decision import Candidate, Query
from routers.kinds.cascade import Cascade
from routers.training.cascade.board import Rules, decide
from routers.training.cascade.prepare import board_of
from routers.training.dataset import Dataset
from routers.training.simulator import make_world, simulate
from tests.unit.routers.candidates import query

SETTINGS = {"base": "ridge", "folds": 2, "weights": 2, "epochs": 3}


@cache
def data() -> Dataset:
    return simulate(make_world(seed=1), 160, 2).dataset


@cache
def trained() -> Cascade:
    return Cascade.fit(data(), seed=3, settings=SETTINGS)


def asked(row: int) -> tuple[Query, list[Candidate]]:
    """A row of the data as it comes at serving time."""
    inputs = data().inputs
    plain = query(data().texts[row], tokens=int(inputs.tokens[row]))
    pool = [Candidate(Endpoint(id=card.id, model=card.id, provider="local"), card, 500.0) for card in data().models]
    return replace(plain, embedding=inputs.embeddings[row]), pool


def test_its_forecasts_are_its_base_s() -> None:
    told, base = (router.predict(data().inputs, data().models) for router in (trained(), trained().base))

    assert np.array_equal(told.quality, base.quality) and np.array_equal(told.tokens, base.tokens)


def test_the_same_seed_gives_the_same_artifact() -> None:
    again = Cascade.fit(data(), seed=3, settings=SETTINGS)

    assert again.artifact.sha256 == trained().artifact.sha256
    assert again.artifact.metrics["queries_judged"] == len(data())


def test_an_artifact_keeps_forecasts_and_verdicts(tmp_path: Path) -> None:
    trained().artifact.save(tmp_path / "made")
    loaded = Cascade.from_artifact(read_artifact(tmp_path / "made"))
    question, pool = asked(0)
    told = loaded.forecast(question, pool)
    made = [Step(pool[0].card.id, 1_000, 500, {})]

    assert told == trained().forecast(question, pool)
    for steps in ([], made):
        verdict = loaded.policy.next(question, pool, told, steps, 10.0, None)
        assert verdict == trained().policy.next(question, pool, told, steps, 10.0, None)


def test_it_serves_as_it_played_in_training() -> None:
    router = trained()
    policy = replace(router.policy, rounds=3, margin=-0.02)
    value = replace(policy.value, trust=(1.0, 1.0, 1.0))
    policy = replace(policy, value=value)
    board = board_of(data(), router.predict(data().inputs, data().models), policy.projection)
    weight, agreed = 100.0, 0
    for row in range(20):
        states = board.begin(np.array([row]), np.array([weight]))
        first, _, _ = decide(value, states, Rules(3, policy.margin))
        states = board.call(states, np.array([row]), first)
        second, answer, _ = decide(value, states, Rules(3, policy.margin))
        question, pool = asked(row)
        told = router.forecast(question, pool)
        begin = policy.next(question, pool, told, [], weight, None)
        made = [Step(pool[first[0]].card.id, 1, int(data().output_tokens[row, first[0]]), {})]
        on = policy.next(question, pool, told, made, weight, None)
        same = on.model == pool[second[0] if second[0] >= 0 else answer[0]].card.id
        agreed += begin.model == pool[first[0]].card.id and same and (on.action == "call") == (second[0] >= 0)
    assert agreed >= 18  # forecast tokens are rounded when they are served


def test_a_few_more_outcomes_reach_the_base() -> None:
    few = data().rows(np.arange(16))

    taught = trained().with_outcomes(few)

    assert taught.artifact.sha256 != trained().artifact.sha256
    assert Cascade.from_artifact(taught.artifact).policy.margin == trained().policy.margin


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base": "fixed"}, "must be a kind that learns"),
        ({"base": "cascade"}, "must be a kind that learns"),
        ({"base": "ridge", "round": 2}, "no setting 'round'"),
        ({"base": "ridge", "max_rounds": 9}, "1 to 3 rounds"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Cascade.fit(data(), settings=settings)


@pytest.mark.parametrize("name", ["answers/weights", "gain1/out", "projection/centre", "base/scores_usual"])
def test_an_artifact_without_an_array_is_refused(name: str) -> None:
    whole = trained().artifact
    cut = replace(whole, arrays={key: array for key, array in whole.arrays.items() if key != name})

    with pytest.raises(ArtifactError, match=name.removeprefix("base/")):
        Cascade.from_artifact(cut)


@pytest.mark.parametrize("fact", ["base", "rounds", "margin", "trust", "learned_hints"])
def test_an_artifact_without_a_fact_is_refused(fact: str) -> None:
    whole = trained().artifact
    cut = replace(whole, facts={key: told for key, told in whole.facts.items() if key != fact})

    with pytest.raises(ArtifactError, match=fact):
        Cascade.from_artifact(cut)


def test_arrays_of_another_shape_are_refused() -> None:
    whole = trained().artifact
    arrays = {**whole.arrays, "answers/weights": whole.arrays["answers/weights"][:-1]}

    with pytest.raises(ArtifactError, match=r"'answers/\.\.\.' do not fit"):
        Cascade.from_artifact(replace(whole, arrays=arrays))


def test_sparse_data_can_be_learned_from() -> None:
    sparse = simulate(make_world(seed=1), 80, 2, density=0.4).dataset

    router = Cascade.fit(sparse, settings=SETTINGS)

    assert np.isfinite(router.predict(sparse.inputs, sparse.models).quality).all()


def test_sigmoid_stays_single_precision() -> None:
    assert sigmoid(np.zeros(2, dtype=np.float32)).dtype == np.float32
