"""Every kind that looks at queries tells two specialists apart, and says how sure one may be."""

from __future__ import annotations

import pytest

from routers.training.metrics import interval_coverage
from tests.contract.planted import learned_class
from tests.unit.routers.kinds.worlds import hits, specialists

LOOKING = ("cluster", "knn", "logistic", "matrix_factorization", "ridge")


@pytest.mark.parametrize("kind", LOOKING)
def test_the_right_specialist_is_found(kind: str) -> None:
    unseen = specialists(300, 2)

    told = learned_class(kind).fit(specialists(400, 1)).predict(unseen.inputs, unseen.models)

    assert hits(told.quality, unseen) > 0.8
    assert float(unseen.score.mean(axis=0).max()) < 0.6
    assert float(((told.quality - unseen.score) ** 2).mean()) < 0.17


@pytest.mark.parametrize("kind", LOOKING)
def test_forecasts_are_as_high_as_scores(kind: str) -> None:
    unseen = specialists(600, 2)

    told = learned_class(kind).fit(specialists(400, 1)).predict(unseen.inputs, unseen.models)

    sure = told.quality > 0.7
    assert sure.any()
    assert abs(float(unseen.score[sure].mean() - told.quality[sure].mean())) < 0.08


@pytest.mark.parametrize("kind", LOOKING)
def test_intervals_hold_the_mean_score_of_alike_queries(kind: str) -> None:
    unseen = specialists(1000, 2)

    told = learned_class(kind).fit(specialists(500, 1)).predict(unseen.inputs, unseen.models)

    assert interval_coverage(told.quality, told.low, told.high, unseen.score, size=25) >= 0.86
