"""How far the graph's forecasts are believed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from routers.training.choices import true_cost
from routers.training.dataset import Dataset
from routers.training.graph.material import Material, material
from routers.training.graph.shrink import SCALES, Market, best_limits, best_own, quality_of, shrunk
from tests.unit.routers.kinds.worlds import specialists


def market_of(data: Dataset) -> tuple[Market, Material]:
    made = material(data, 4, 32, 0)
    lengths = np.full(made.score.shape, np.log(100.0))
    return Market.of(made, lengths, lengths[0]), made


def test_no_own_part_leaves_what_models_have_in_common() -> None:
    deviation, heads = np.array([[1.0, 3.0], [-2.0, 0.0]]), np.array([[-3.0, 3.0], [0.0, 0.0]])

    assert np.allclose(shrunk(deviation, heads, 0.0), [[2, 2], [-1, -1]])
    assert np.allclose(shrunk(deviation, heads, 1.0), [[2 - 7 / 3, 2 + 7 / 3], [-1 - 1 / 3, -1 + 1 / 3]])


def test_qualities_keep_their_usual_means() -> None:
    deviation = np.random.default_rng(0).normal(size=(500, 3))
    usual = np.array([0.3, 0.6, 0.9])

    quality, _ = quality_of(deviation, usual)

    assert np.allclose(quality.mean(axis=0), usual, atol=1e-3)


def test_trust_ends_where_forecasts_lose() -> None:
    familiar, strange = np.linspace(0.6, 1, 200, dtype=np.float32), np.linspace(0, 0.7, 400, dtype=np.float32)
    losses = np.full(400, -0.1)

    low, high = best_limits(familiar, strange, losses)

    assert high - low <= 0.05
    assert high >= 0.6


def test_trust_goes_on_where_forecasts_win() -> None:
    familiar, strange = np.linspace(0.6, 1, 200, dtype=np.float32), np.linspace(0, 0.7, 400, dtype=np.float32)

    low, _ = best_limits(familiar, strange, np.full(400, 0.1))

    assert low < 0.4


def test_what_tells_the_right_specialist_is_believed() -> None:
    market, made = market_of(specialists(400, 1))
    skilled = np.where(made.score > 0, 2.0, -2.0)

    own = best_own(
        market, np.zeros_like(skilled), skilled - skilled.mean(axis=1, keepdims=True), made.score.mean(axis=0)
    )

    assert own == SCALES[1]  # the least that chooses the right one already


def test_what_tells_nothing_is_not_believed() -> None:
    market, made = market_of(specialists(400, 1))
    noise = np.random.default_rng(0).normal(0, 2, made.score.shape)

    assert best_own(market, np.zeros_like(noise), noise, np.array([0.9, 0.1])) == 0.0


def test_what_is_paid_is_the_data_s_cost_and_what_is_forecast_knows_the_whole_prompt() -> None:
    data = specialists(60, 1)
    dear = replace(data, cost_usd=np.full(data.score.shape, 7.0), input_tokens=np.full_like(data.input_tokens, 1e6))

    market, made = market_of(dear)

    assert np.array_equal(market.bench.cost, true_cost(made.data))
    assert (market.cost > 10 * market_of(data)[0].cost).all()


def test_pairs_that_were_not_observed_are_never_chosen() -> None:
    data = specialists(100, 1)
    kept = np.random.default_rng(0).random(data.score.shape) < 0.5
    kept[~kept.any(axis=1), 0] = True
    market, made = market_of(data.only(kept))

    gains = market.gains(np.tile([0.9, 0.1], (len(made), 1)), np.tile([0.1, 0.9], (len(made), 1)))

    alone = np.isnan(made.score).any(axis=1)
    assert not gains[alone].any()
    assert np.isfinite(market.figures(np.zeros_like(made.score), market.cost, market.draws())).all()
