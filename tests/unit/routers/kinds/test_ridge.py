"""Ridge regression as a router."""

from __future__ import annotations

import numpy as np

from routers.kinds.ridge import RidgeRouter
from tests.contract.planted import outcomes


def test_the_penalty_is_tuned_unless_it_is_given() -> None:
    tuned = RidgeRouter.fit(outcomes()).artifact.facts["settings"]["penalty"]
    given = RidgeRouter.fit(outcomes(), settings={"penalty": 7.0}).artifact.facts["settings"]["penalty"]

    assert tuned in RidgeRouter.GRID["penalty"]
    assert given == 7.0


def test_a_heavy_penalty_leaves_the_means() -> None:
    data = outcomes()

    told = RidgeRouter.fit(data, settings={"penalty": 1e9}).predict(data.inputs, data.models)

    assert np.allclose(told.quality, data.score.mean(axis=0), atol=1e-3)
