"""The best single model of each trade-off."""

from __future__ import annotations

import numpy as np
import pytest

from routers.kinds.mean import MeanRouter
from tests.contract.planted import outcomes


def test_every_query_is_forecast_the_models_means() -> None:
    data = outcomes()

    told = MeanRouter.fit(data).predict(data.inputs, data.models)

    assert np.allclose(told.quality, data.score.mean(axis=0), atol=1e-5)
    assert (told.tokens == told.usual_tokens).all()
    assert (told.trust == 1).all()


def test_the_usual_tokens_are_the_middle_ones() -> None:
    data = outcomes()

    told = MeanRouter.fit(data).predict(data.inputs, data.models)

    below = (data.output_tokens < told.tokens).mean()
    assert below == pytest.approx(0.5, abs=0.08)


def test_it_asks_for_no_embedding() -> None:
    router = MeanRouter.fit(outcomes())

    assert not router.needs_embedding
    assert router.artifact.embedder == "" and router.artifact.dimensions == 0
