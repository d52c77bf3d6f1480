"""Abstention offline is abstention in service."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from policies.catalogue import Endpoint
from policies.schema import Objective, Policy, RouterSpec
from routers.choose import choose
from routers.decision import Candidate, Features, Forecast, Query
from routers.predictions import Predictions
from routers.training.caution import Caution, taken_with_caution
from routers.training.choices import Taken, bench_of, taken_by
from tests.unit.routers.training.judged import DATA, told

TEST = DATA.rows(np.arange(60))
BENCH = bench_of(TEST)


def forecasts() -> Predictions:
    rng = np.random.default_rng(2)
    made = told(TEST, rng.random(TEST.score.shape), rng.integers(20, 800, TEST.score.shape))
    usual = rng.random(len(TEST.models)).astype(np.float32)
    trust = rng.random(len(TEST)).astype(np.float32)
    ratio, lengths = rng.uniform(1, 3, len(usual)).astype(np.float32), np.full(len(usual), 200, dtype=np.float32)
    return replace(made, usual=usual, usual_tokens=lengths, trust=trust, mean_ratio=ratio)


TOLD = forecasts()


def same(one: Taken, other: Taken) -> bool:
    return np.array_equal(one.score, other.score) and np.array_equal(one.cost, other.cost)


def test_without_caution_nothing_changes() -> None:
    assert same(taken_with_caution(BENCH, TOLD, Caution()), taken_by(BENCH, TOLD))


def test_a_query_that_is_not_trusted_gets_the_default() -> None:
    took = taken_with_caution(BENCH, TOLD, Caution(min_trust=1.01))

    assert np.array_equal(took.score[0], TEST.score[:, int(TOLD.usual.argmax())])


@pytest.mark.parametrize("caution", [Caution(confidence=0.9), Caution(min_trust=0.5), Caution(0.8, 0.3)])
def test_the_offline_rule_is_the_one_in_service(caution: Caution) -> None:
    offline = taken_with_caution(BENCH, TOLD, caution)
    place = BENCH.at("BAL")

    objective = Objective(quality=1.0, cost=1.0, latency=0.0, cost_scale_usd=BENCH.span)
    spec = RouterSpec(kind="rules", confidence=caution.confidence, min_trust=caution.min_trust)
    policy = Policy(schema=1, name="p", objective=objective, router=spec)
    for row in range(len(TEST)):
        candidates, given = zip(*(pair(row, column) for column in range(len(TEST.models))), strict=True)
        query = Query("q", Features(tokens=int(TEST.inputs.tokens[row]), chars=1))
        decision = choose(policy, "rules", query, candidates, given, "", random.Random(0))
        chosen = [card.id for card in TEST.models].index(decision.chosen.candidate.card.id)
        assert offline.cost[place, row] == BENCH.cost[row, chosen]


def pair(row: int, column: int) -> tuple[Candidate, Forecast]:
    card = TEST.models[column]
    endpoint = Endpoint(id=f"e{column}", model=card.id, provider="openai", base_url="http://x")
    quality, low, high = (float(array[row, column]) for array in (TOLD.quality, TOLD.low, TOLD.high))
    tokens, usual = int(TOLD.tokens[row, column]), int(TOLD.usual_tokens[column])
    forecast = Forecast(
        endpoint.id, quality, low, high, tokens, tokens, 100.0, float(TOLD.usual[column]), usual, float(TOLD.trust[row])
    )
    mean, usual_mean = round(float(TOLD.tokens_mean[row, column])), round(float(TOLD.usual_tokens_mean[column]))
    told_means = replace(forecast, output_tokens_mean=mean, usual_output_tokens_mean=usual_mean)
    return Candidate(endpoint, card, 100.0), told_means
