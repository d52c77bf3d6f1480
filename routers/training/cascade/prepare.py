"""From outcomes and a base router's forecasts to the simulator's arrays; in training, forecasts are out of fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from routers.cascade_learned import Projection
from routers.cascade_value import HINTS, length_signal
from routers.inputs import FACTS
from routers.learned import LearnedRouter
from routers.predictions import Predictions
from routers.training.cascade.board import Board
from routers.training.choices import forecast_cost, true_cost
from routers.training.dataset import Dataset
from routers.training.splits import folds_by_group

_CODE, _TOOLS = FACTS.index("code"), FACTS.index("tools")


def board_of(data: Dataset, told: Predictions, projection: Projection) -> Board:
    """The simulator of `data` under forecasts `told` of the same rows and models."""
    inputs = data.inputs
    quality = np.clip(np.nan_to_num(told.quality), 0, 1)
    context = projection.context(
        inputs.embeddings, inputs.tokens, inputs.facts[:, _CODE], inputs.facts[:, _TOOLS], told.trust
    )
    return Board(
        quality=quality.astype(np.float32),
        forecast_usd=forecast_cost(told, data.models, inputs.tokens),
        context=context,
        length=length_signal(data.output_tokens, told.tokens, told.tokens_high).astype(np.float32),
        hints=np.full((*data.score.shape, HINTS), np.nan, dtype=np.float32),
        score=data.score,
        paid_usd=true_cost(data),
    )


def out_of_fold(
    base: type[LearnedRouter],
    data: Dataset,
    *,
    folds: int,
    seed: int,
    settings: Mapping[str, Any] | None,
    progress: Callable[[float, str], None],
) -> Predictions:
    """Forecasts of each row by a router that has not seen its question.

    A router is surer of what it learned from than of anything else, which would teach a cascade to trust it too far.
    """
    parts: list[tuple[Any, Predictions]] = []
    for place, (others, held) in enumerate(folds_by_group(data, folds, seed)):
        progress(place / folds, f"forecasts for fold {place + 1} of {folds}")
        router = base.fit(data.rows(others), seed=seed, settings=settings)
        parts.append((held, router.predict(data.inputs.rows(held), data.models)))
    order = np.argsort(np.concatenate([held for held, _ in parts]))
    told = [one for _, one in parts]
    joined = {name: np.concatenate([getattr(one, name) for one in told])[order] for name in _BY_QUERY}
    usual = {name: np.mean([getattr(one, name) for one in told], axis=0) for name in _BY_MODEL}
    return Predictions(**joined, **usual)


_BY_MODEL = ("usual", "usual_tokens", "mean_ratio")
_BY_QUERY = ("quality", "low", "high", "tokens", "tokens_high", "latency_ms", "trust")
