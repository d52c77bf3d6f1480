"""Which queries the plain kinds are trusted with, and what becomes of the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routers.kinds.cluster import ClusterRouter
from routers.kinds.graphrouter import GraphRouter
from routers.kinds.knn import NeighbourRouter
from routers.kinds.logistic import LogisticRouter
from routers.kinds.matrix_factorization import FactorizationRouter
from routers.kinds.mean import MeanRouter
from routers.kinds.ridge import RidgeRouter
from routers.learned import LearnedRouter
from routers.token_forecasts import lift
from routers.training.dataset import Dataset
from routers.training.gating import rewards, trust_in
from routers.training.lesson import lessons
from tests.contract.planted import fitted, outcomes
from tests.unit.routers.kinds.worlds import specialists

LOOKING = [ClusterRouter, NeighbourRouter, LogisticRouter, FactorizationRouter, RidgeRouter]


def far_from(data: Dataset) -> Dataset:
    """The same queries at places where none was before."""
    opposite = -data.inputs.embeddings.mean(axis=0)
    moved = 0.05 * data.inputs.embeddings + opposite / np.linalg.norm(opposite)
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    return replace(data, inputs=replace(data.inputs, embeddings=moved.astype(np.float32)))


@pytest.mark.parametrize("kind", LOOKING)
def test_far_from_all_that_was_learned_every_model_is_as_usual_and_less_is_sure(kind: type[LearnedRouter]) -> None:
    router, data = fitted(kind.kind), outcomes()

    near, far = (router.predict(one.inputs, one.models) for one in (data, far_from(data)))

    assert near.trust.mean() > 0.7
    assert not far.trust.any()
    assert np.allclose(far.quality, near.usual, atol=1e-6)
    assert np.allclose(far.tokens, near.usual_tokens * np.exp(lift(np.log(near.usual_tokens))), rtol=1e-5)
    assert (far.high - far.low).mean() >= (near.high - near.low).mean()


def test_an_artifact_without_a_gate_is_believed_everywhere() -> None:
    artifact, data = fitted("ridge").artifact, far_from(outcomes())
    ungated = {name: one for name, one in artifact.arrays.items() if not name.startswith("gate.")}

    assert (RidgeRouter(replace(artifact, arrays=ungated)).predict(data.inputs, data.models).trust == 1).all()


def test_the_mean_needs_no_gate_and_the_published_graph_router_has_none() -> None:
    for kind in (MeanRouter.kind, GraphRouter.kind):
        assert "gate.anchors" not in fitted(kind).artifact.arrays


def test_forecasts_that_choose_better_on_left_out_skills_open_the_gate() -> None:
    _, _, whole = lessons(specialists(300, 1), None, 0)
    by_skill = trust_in(RidgeRouter, whole, {"penalty": 3.0}, 0)
    swapped = trust_in(
        RidgeRouter, replace(whole, score=whole.score[np.random.default_rng(0).permutation(300)]), {"penalty": 3.0}, 0
    )

    assert by_skill is not None and swapped is not None
    assert by_skill.gate.high <= swapped.gate.high
    assert 0.05 <= by_skill.strange <= 0.5


def test_rewards_are_those_of_the_choices() -> None:
    _, _, whole = lessons(specialists(200, 1), None, 0)

    right, wrong = rewards(whole.score, whole), rewards(1 - whole.score, whole)

    assert (right >= wrong).all() and right.mean() > wrong.mean() + 0.2


@pytest.mark.parametrize("kind", [*LOOKING, MeanRouter])
def test_a_model_that_was_scored_in_one_part_only_leaves_no_gap(kind: type[LearnedRouter]) -> None:
    data = outcomes()
    score = data.score.copy()
    score[8:, 2] = np.nan

    router = kind.fit(replace(data, score=score))

    told = router.predict(data.inputs, data.models)
    assert all(np.isfinite(array).all() for array in (told.quality, told.low, told.high, told.usual))
    assert 0.02 < told.quality[:, 2].mean() < 0.98
