"""What a forecast is worth under an objective, and how far it breaks the objective's floor and ceilings; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from policies.schema import Objective
from routers.decision import Candidate, Forecast

_NANO = 1_000_000_000
# Scores are kept finite so that they can be logged as JSON, whatever scale a policy sets.
_WORST = -1e12
# A cost that nobody knows breaks a ceiling by as much as one that is twice as high.
_UNKNOWN_COST = 1.0


def costs_of(
    input_tokens: int, candidates: Sequence[Candidate], forecasts: Sequence[Forecast]
) -> tuple[list[int], list[int]]:
    """Forecast costs in nano-dollars at the expected and at the upper quantile of the output's length; 0 for unknown.

    Written out instead of two calls of `cost_nanousd` each: with fifty candidates these took a fifth of a decision.
    """
    expected, high = [], []
    for one, told in zip(candidates, forecasts, strict=True):
        card = one.card
        read, written = card.steady_rates or card.text_rates(input_tokens)
        mean, pico = told.output_tokens_mean, input_tokens * read
        expected.append(-(-(pico + written * (told.output_tokens if mean is None else mean)) // 1000))
        high.append(-(-(pico + written * told.output_tokens_high) // 1000))
    return expected, high


def scores_of(
    objective: Objective,
    candidates: Sequence[Candidate],
    qualities: Sequence[float],
    latencies_ms: Sequence[float],
    costs: Sequence[int],
    multiplier: float = 1.0,
) -> list[float]:
    """Quality weight x quality - cost weight x multiplier x cost - latency weight x latency, in units of the scales.

    Where cost counts, a model without a price is taken to cost as much as the dearest of known price.
    """
    cost_weight, latency_weight, quality_weight = objective.cost * multiplier, objective.latency, objective.quality
    if cost_weight and 0 in costs:  # as is one that is not known
        dearest = max(costs)
        costs = [cost or (0 if one.card.priced else dearest) for one, cost in zip(candidates, costs, strict=True)]
    cost_scale, latency_scale = objective.cost_scale_usd * _NANO, objective.latency_scale_ms
    scores = []
    for quality, latency_ms, cost in zip(qualities, latencies_ms, costs, strict=True):
        score = quality_weight * quality - cost_weight * (cost / cost_scale)
        if latency_weight:
            score -= latency_weight * (latency_ms / latency_scale)
        if not _WORST < score < math.inf:  # nor is it where one of these is no number
            score = quality_weight * finite(quality, 0.0)
            score -= cost_weight * (cost / cost_scale) if cost_weight else 0.0
            score -= latency_weight * (finite(latency_ms, -_WORST) / latency_scale) if latency_weight else 0.0
            score = max(score, _WORST)
        scores.append(score)
    return scores


def shortfalls(
    objective: Objective, candidates: Sequence[Candidate], forecasts: Sequence[Forecast], costs_high: Sequence[int]
) -> list[float] | None:
    """How far each breaks the floor and the ceilings, each as a share of its bound, together; None without bounds."""
    floor, ceiling_usd, ceiling_ms = objective.min_quality, objective.max_cost_usd, objective.max_latency_ms
    if not floor and ceiling_usd is None and ceiling_ms is None:
        return None
    found = []
    for one, told, cost in zip(candidates, forecasts, costs_high, strict=True):
        short = max(1.0 - finite(told.quality, 0.0) / floor, 0.0) if floor else 0.0
        if ceiling_usd is not None:
            short += max(cost / _NANO / ceiling_usd - 1.0, 0.0) if one.card.priced else _UNKNOWN_COST
        if ceiling_ms is not None:
            short += max(finite(told.latency_ms, -_WORST) / ceiling_ms - 1.0, 0.0)
        found.append(short)
    return found


def finite(value: float, otherwise: float) -> float:
    """The value, or another where it is no number."""
    return value if math.isfinite(value) else otherwise
