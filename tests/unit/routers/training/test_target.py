"""A policy's probabilities on logged queries are those with which it would decide."""

from __future__ import annotations

import numpy as np
import pytest

from policies.schema import Objective, Policy, RouterSpec
from routers.kinds.fixed import Fixed
from routers.kinds.mean import MeanRouter
from routers.training.logs import logs_of
from routers.training.offpolicy import compare, evaluate
from routers.training.simulator import logged, make_world, simulate
from routers.training.support import Needs
from routers.training.target import probabilities

WORLD = make_world(models=3, seed=4)
SEEN = simulate(WORLD, 3000, 1)
NAMES = [card.id for card in WORLD.cards]


def policy(**changes: object) -> Policy:
    return Policy.model_validate({"schema": 1, "name": "p", **changes})


def test_exploration_is_shared_out_as_it_is_when_serving() -> None:
    found = probabilities(policy(exploration=0.2), Fixed(NAMES[1]), SEEN.dataset)

    assert found[:, 1] == pytest.approx(0.8) and found[:, [0, 2]] == pytest.approx(0.1)


def test_models_that_the_policy_does_not_allow_have_no_chance() -> None:
    found = probabilities(policy(models=[NAMES[0]]), Fixed(NAMES[1]), SEEN.dataset)

    assert np.array_equal(found, np.tile([1.0, 0.0, 0.0], (3000, 1)))
    with pytest.raises(ValueError, match="allows none of the models"):
        probabilities(policy(models=["stranger"]), Fixed(NAMES[1]), SEEN.dataset)


def test_a_learned_router_is_asked_with_the_logged_inputs_not_with_texts() -> None:
    router = MeanRouter.fit(SEEN.dataset)
    best = int(np.nanmean(SEEN.dataset.score, axis=0).argmax())

    found = probabilities(policy(objective=Objective().model_dump()), router, SEEN.dataset)

    assert (found.argmax(axis=1) == best).all() and found.sum(axis=1) == pytest.approx(1)


def test_a_logged_export_is_judged_end_to_end() -> None:
    log = logged(SEEN.dataset, [0.5, 0.25, 0.25], seed=2)
    spec = policy(router=RouterSpec(kind="fixed", model=NAMES[2]).model_dump())
    target, old = (probabilities(spec, Fixed(NAMES[place]), log) for place in (2, 0))

    found, apart = evaluate(logs_of(log), target), compare(logs_of(log), target, old)

    truth = SEEN.quality.mean(axis=0)
    assert found.betting.low < found.dr.low < truth[2] < found.dr.high < found.betting.high
    assert apart.difference.low < truth[2] - truth[0] < apart.difference.high
    assert apart.low < truth[2] - truth[0]


def test_an_export_without_propensities_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match="no column 'propensity'"):
        logs_of(SEEN.dataset)
    assert Needs().floor > 0
