"""Whether a forecast winner is ahead of the policy's default surely enough to be called in its place; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from policies.schema import Objective, RouterSpec
from routers.decision import Candidate, Forecast
from routers.objective import scores_of

# Standard deviations from the middle to either end of a forecast's 90 % interval.
_INTERVAL = 1.645


def abstains(
    spec: RouterSpec,
    objective: Objective,
    multiplier: float,
    input_tokens: int,
    candidates: Sequence[Candidate],
    forecasts: Sequence[Forecast],
    scores: Sequence[float],
    inside: Sequence[int],
) -> tuple[int, str] | None:
    """The index of the default that answers instead of the best of `inside`, and why as a sentence; None: the best may.

    The default is `router.model` where it is among `inside`, else the best by usual quality and usual length under the
    same objective. Errors of forecasts are taken as normal and independent, with the spread of their intervals.
    """
    if spec.confidence <= 0.5 and not spec.min_trust:
        return None
    best = max(inside, key=scores.__getitem__)
    default = _default(spec, objective, multiplier, input_tokens, candidates, forecasts, scores, inside)
    if default is None or candidates[default].card.id == candidates[best].card.id:
        return None
    winner, usual = candidates[best].card.id, candidates[default].card.id
    trust = forecasts[best].trust
    if trust < spec.min_trust:
        return default, (
            f"The query is unlike those the router learned from (trust {trust:.2f}, the policy asks"
            f" {spec.min_trust:.2f}), so the default '{usual}' answers in place of '{winner}'."
        )
    sure = certainty(objective, forecasts[best], forecasts[default], scores[best] - scores[default])
    if sure < spec.confidence:
        return default, (
            f"'{winner}' is ahead of '{usual}' with a probability of only {sure:.0%} (the policy asks"
            f" {spec.confidence:.0%}), so the default '{usual}' answers."
        )
    return None


def certainty(objective: Objective, winner: Forecast, default: Forecast, advantage: float) -> float:
    """Probability that the true score of one is above the other's, when it is `advantage` higher by forecast."""
    spread = objective.quality * math.hypot(_spread(winner), _spread(default))
    if spread <= 0 or not math.isfinite(spread):
        return 1.0 if advantage > 0 and math.isfinite(spread) else 0.5
    return 0.5 * (1.0 + math.erf(advantage / spread / math.sqrt(2.0)))


def _default(
    spec: RouterSpec,
    objective: Objective,
    multiplier: float,
    input_tokens: int,
    candidates: Sequence[Candidate],
    forecasts: Sequence[Forecast],
    scores: Sequence[float],
    inside: Sequence[int],
) -> int | None:
    named = [index for index in inside if candidates[index].card.id == spec.model]
    if named:
        return max(named, key=scores.__getitem__)
    usual = [forecasts[index].usual_quality for index in inside]
    known = [quality for quality in usual if quality is not None]
    if len(known) < len(usual):
        return None  # a router that tells no usual quality has nothing to fall back to
    among = [candidates[index] for index in inside]
    costs = [
        one.card.cost_nanousd(input_tokens, told.usual_expected_output_tokens or told.expected_output_tokens)
        if one.card.priced
        else 0
        for one, told in zip(among, (forecasts[index] for index in inside), strict=True)
    ]
    latencies = [forecasts[index].latency_ms for index in inside]
    worth = scores_of(objective, among, known, latencies, costs, multiplier)
    return inside[max(range(len(worth)), key=worth.__getitem__)]


def _spread(told: Forecast) -> float:
    return (told.quality_high - told.quality_low) / (2 * _INTERVAL)
