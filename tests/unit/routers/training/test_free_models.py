"""Models that cost nothing, and data without any cost, are judged without a division by zero."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routers.training.evaluate import judge_splits
from routers.training.summary import summarise
from tests.unit.routers.training.judged import DATA


def test_a_pool_of_free_models_is_judged_by_score_alone() -> None:
    nothing = {"price_in_usd_per_mtok": 0.0, "price_out_usd_per_mtok": 0.0}
    free = tuple(card.model_copy(update=nothing) for card in DATA.models)
    data = replace(DATA, models=free, cost_usd=np.zeros(DATA.cost_usd.shape))

    rows = {row.router: row for row in summarise(judge_splits(data, ["mean"], [0]), resamples=50)}

    assert rows["mean"].metrics["aiq_log"] == pytest.approx(rows["mean"].metrics["score_PF"])
    assert all(np.isfinite(row.metrics["reward_BAL"]) for row in rows.values())


def test_data_without_cost_tokens_or_length_is_judged_by_price() -> None:
    nothing = np.full(DATA.cost_usd.shape, np.nan)
    data = replace(DATA, cost_usd=nothing, output_tokens=nothing.astype(np.float32))

    rows = {row.router: row for row in summarise(judge_splits(data, ["mean"], [0]), resamples=50)}

    assert 0 < rows["mean"].metrics["aiq_log"] <= 1
