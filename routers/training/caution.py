"""Offline choices of a policy that abstains: where the winner is not surely ahead, the default answers.

The same rule as `routers.abstention`, for many queries and weights of cost at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from routers.predictions import Predictions
from routers.training.choices import Bench, Taken, card_cost, choose_all, forecast_cost, prompt_tokens, taken
from routers.training.dataset import Doubles, Indices

# Standard deviations from the middle to either end of a forecast's 90 % interval.
_INTERVAL = 1.645


@dataclass(frozen=True, slots=True)
class Caution:
    """A policy's `router.confidence` and `router.min_trust`; 0.5 and 0 never abstain."""

    confidence: float = 0.5
    min_trust: float = 0.0


def taken_with_caution(bench: Bench, told: Predictions, caution: Caution) -> Taken:
    """As `taken_by`, with the default in the place of winners that are not sure enough."""
    test = bench.test
    cost = forecast_cost(told, test.models, prompt_tokens(test))
    best = choose_all(told.quality, cost, bench.weights, bench.observed)
    default = _defaults(bench, told)
    unsure = np.zeros(best.shape, dtype=np.bool_) | (told.trust < caution.min_trust)
    if caution.confidence > 0.5:
        unsure |= _behind(told, cost, bench.weights, best, default, NormalDist().inv_cdf(caution.confidence))
    return taken(bench, np.where(unsure, default, best))


def _defaults(bench: Bench, told: Predictions) -> Indices:
    """The best by usual quality and usual length at each weight [L, Q]."""
    test = bench.test
    shape = bench.score.shape
    given = np.broadcast_to(prompt_tokens(test)[:, None], shape)
    cost = card_cost(test.models, given, np.broadcast_to(told.usual_tokens_mean, shape))
    return choose_all(np.broadcast_to(told.usual, shape), cost, bench.weights, bench.observed)


def _behind(
    told: Predictions, cost: Doubles, weights: Doubles, best: Indices, default: Indices, needed: float
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Whether the winner's advantage is less than `needed` spreads of the difference [L, Q]."""
    rows = np.arange(cost.shape[0])
    spread = (told.high - told.low).astype(np.float64) / (2 * _INTERVAL)
    quality = told.quality.astype(np.float64)
    ahead = quality[rows, best] - quality[rows, default]
    ahead -= weights[:, None] * (cost[rows, best] - cost[rows, default])
    return np.asarray((ahead < needed * np.hypot(spread[rows, best], spread[rows, default])) & (best != default))
