"""The uniform baseline."""

from __future__ import annotations

import random

import pytest

from policies.schema import Objective, Policy, RouterSpec
from routers.choose import choose
from routers.kinds.random_choice import RandomChoice
from tests.unit.routers.candidates import candidate, query


def test_all_candidates_are_told_alike_whatever_they_are() -> None:
    router = RandomChoice.from_spec(RouterSpec(kind="random_choice"))
    pool = [candidate("a", prior=0.9, latency_ms=100), candidate("b", prior=0.1, latency_ms=300)]
    first, second = router.forecast(query(), pool)
    assert (first.quality, first.latency_ms) == (second.quality, second.latency_ms)
    assert (first.quality_low, first.quality_high) == (0.0, 1.0)


def test_under_quality_alone_traffic_is_shared_by_weight() -> None:
    router = RandomChoice()
    pool = [candidate("a", weight=1), candidate("b", weight=2, price=9), candidate("c", weight=1, latency_ms=9)]
    policy = Policy(schema=1, name="p", objective=Objective(latency=0.5))
    decision = choose(policy, "random_choice", query(), pool, router.forecast(query(), pool), "", random.Random(1))
    shares = {ranked.candidate.card.id: ranked.propensity for ranked in decision.ranking}
    assert shares == pytest.approx({"a": 0.25, "b": 0.5, "c": 0.25})
