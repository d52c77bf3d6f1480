"""What would have been chosen: the weights of cost, the true and forecast costs, ties, and what was not observed."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from policies.catalogue import Endpoint
from policies.schema import Objective, Policy, RouterSpec
from routers.choose import choose
from routers.decision import Candidate, Features, Forecast, Query
from routers.training.choices import (
    bench_of,
    card_cost,
    choose_all,
    forecast_cost,
    prompt_tokens,
    taken,
    taken_by,
    true_cost,
)
from tests.unit.routers.training.judged import DATA, told, without

BENCH = bench_of(DATA)


def test_without_a_weight_the_best_is_taken_and_with_an_endless_one_the_cheapest() -> None:
    quality, cost = np.array([[0.2, 0.9, 0.5]]), np.array([[1e-6, 3e-3, 1e-3]])

    places = choose_all(quality, cost, BENCH.weights)

    assert places[0, 0] == 1
    assert places[BENCH.ladder.stop - 1, 0] == 0


def test_ties_of_quality_go_to_the_cheaper_model_and_ties_of_cost_to_the_better() -> None:
    same_quality = choose_all(np.full((1, 3), 0.7), np.array([[2e-3, 1e-3, 3e-3]]), BENCH.weights)
    same_cost = choose_all(np.array([[0.4, 0.8]]), np.full((1, 2), 1e-3), BENCH.weights)

    assert set(same_quality.ravel()) == {1}
    assert set(same_cost.ravel()) == {1}


def test_the_weights_of_the_trade_offs_follow_the_normalised_cost() -> None:
    assert BENCH.weights[BENCH.at("BAL")] == pytest.approx(1 / BENCH.span)
    assert BENCH.weights[BENCH.at("CF")] == pytest.approx(4 / BENCH.span)
    assert BENCH.weights[BENCH.at("PF")] == BENCH.weights[0]


def test_costs_at_card_prices_are_the_card_s_own() -> None:
    told_cost = forecast_cost(told(DATA, 0.5, 123.4), DATA.models, DATA.inputs.tokens)

    expected = DATA.models[2].cost_nanousd(round(float(DATA.inputs.tokens[7])), 123) / 1e9
    assert told_cost[7, 2] == pytest.approx(expected, abs=1e-9)


def test_the_prompt_s_tokens_are_the_median_count_and_an_estimate_only_where_none_was_counted() -> None:
    counts = DATA.input_tokens.copy()
    counts[0], counts[1] = [500, 510, 520, 530, 540, np.nan], np.nan

    tokens = prompt_tokens(replace(DATA, input_tokens=counts))

    assert tokens[0] == 520 and tokens[1] == DATA.inputs.tokens[1]


def test_a_card_without_price_costs_as_much_as_the_dearest() -> None:
    bare = DATA.models[0].model_copy(update={"price_in_usd_per_mtok": None, "price_out_usd_per_mtok": None})
    counts = np.full((2, 2), 100, dtype=np.float32)

    cost = card_cost([bare, DATA.models[1]], counts, counts)

    assert np.array_equal(cost[:, 0], cost[:, 1])


def test_where_the_data_has_no_cost_its_tokens_at_card_prices_stand_for_it() -> None:
    bare = replace(DATA, cost_usd=np.full(DATA.cost_usd.shape, np.nan))

    assert np.allclose(true_cost(bare), true_cost(DATA), atol=2e-9)


def test_a_pair_that_was_not_observed_is_never_taken() -> None:
    sparse = without(DATA, 0.6)
    bench = bench_of(sparse)

    took = taken_by(bench, told(sparse, np.linspace(0, 1, 6)))

    assert np.isfinite(took.score).all() and np.isfinite(took.cost).all()


def test_the_last_rows_are_the_cheapest_and_the_dearest_single_model() -> None:
    took = taken(BENCH, np.zeros((1, len(DATA)), dtype=np.intp))

    means = true_cost(DATA).mean(axis=0)
    assert took.cost[1].mean() == pytest.approx(means.min())
    assert took.cost[2].mean() == pytest.approx(means.max())


def test_a_query_without_any_outcome_can_not_be_judged() -> None:
    score = DATA.score.copy()
    score[3] = np.nan

    with pytest.raises(ValueError, match="at least one outcome"):
        bench_of(replace(DATA, score=score))


def test_the_offline_choice_is_the_one_that_is_made_in_service() -> None:
    cost_weight, scale = 0.4, 0.002
    rng = np.random.default_rng(5)
    quality, tokens = rng.random(DATA.score.shape), rng.integers(10, 900, DATA.score.shape)
    forecasts = told(DATA, quality, tokens)
    cost = forecast_cost(forecasts, DATA.models, DATA.inputs.tokens)

    offline = choose_all(forecasts.quality, cost, np.array([cost_weight / scale]))[0]

    objective = Objective(quality=1.0, cost=cost_weight, latency=0.0, cost_scale_usd=scale)
    policy = Policy(schema=1, name="p", objective=objective, router=RouterSpec(kind="rules"))
    for row in range(20):
        candidates, expected = [], []
        for column, card in enumerate(DATA.models):
            endpoint = Endpoint(id=f"e{column}", model=card.id, provider="openai", base_url="http://x")
            candidates.append(Candidate(endpoint, card, 100.0))
            one, count = float(forecasts.quality[row, column]), int(tokens[row, column])
            expected.append(Forecast(endpoint.id, one, one, one, count, count, 100.0))
        query = Query("q", Features(tokens=int(DATA.inputs.tokens[row]), chars=1))
        decision = choose(policy, "rules", query, candidates, expected, "", random.Random(0))
        assert decision.chosen.candidate.card.id == DATA.models[offline[row]].id


def test_a_forecast_cost_is_that_of_the_mean_output() -> None:
    skewed = replace(told(DATA, 0.5, 100.0), mean_ratio=np.full(6, 1.5, dtype=np.float32))

    cost = forecast_cost(skewed, DATA.models, DATA.inputs.tokens)

    assert np.allclose(cost, forecast_cost(told(DATA, 0.5, 150.0), DATA.models, DATA.inputs.tokens))
