"""The one place where quality is traded against cost and latency; pure but for the random numbers it is given.

score = quality weight x quality - cost weight x cost / cost scale - latency weight x latency / latency scale,
on the forecasts' medians. Every candidate's propensity is exact, so that logs can be judged off policy later.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from operator import attrgetter

from policies.schema import Objective, Policy
from routers.decision import Candidate, Decision, Forecast, Query, Ranked

# Endpoints of the winning model whose score is this near the best share its traffic: prices are the model's own, so
# only latency tells them apart, and its small changes should not move all traffic from one to another.
SAME_MODEL_TOLERANCE = 0.05

_NANO = 1_000_000_000
# Scores are kept finite so that they can be logged as JSON, whatever scale a policy sets.
_WORST = -1e12


def choose(
    policy: Policy,
    router_kind: str,
    query: Query,
    candidates: Sequence[Candidate],
    forecasts: Sequence[Forecast],
    reason: str,
    rng: random.Random,
    artifact_sha256: str | None = None,
    excluded: Mapping[str, str] | None = None,
) -> Decision:
    """Rank the candidates and draw the one to call first; `ValueError` without candidates or on unequal lengths.

    The best score wins. Candidates of exactly the best score, and endpoints of the winning model within
    `SAME_MODEL_TOLERANCE`, share its traffic by `endpoint.weight`. With probability `policy.exploration` one of the
    others is drawn instead, all equally likely. Where cost counts, a model without a price is ranked as if a call
    cost as much as the dearest candidate of known price; its logged cost stays 0 for unknown. One draw of `rng`.
    """
    if not candidates:
        raise ValueError("there is no candidate to choose from")
    if len(candidates) != len(forecasts):
        raise ValueError(f"{len(candidates)} candidates but {len(forecasts)} forecasts")
    costs = [_costs(query.features.tokens, one, told) for one, told in zip(candidates, forecasts, strict=True)]
    scores = _scores(policy.objective, candidates, forecasts, [cost for cost, _ in costs])
    shares, leaders = _propensities(candidates, scores, policy.exploration)
    ranking = [
        Ranked(one, told, cost, high, score, share)
        for one, told, (cost, high), score, share in zip(candidates, forecasts, costs, scores, shares, strict=True)
    ]
    place = _draw(shares, rng.random())
    drawn = ranking.pop(place)
    ranking.sort(key=attrgetter("score"), reverse=True)
    ranking.insert(0, drawn)
    if place in leaders:
        outcome = _led(ranking, [candidates[index].card.id for index in leaders])
    else:
        outcome = _explored(ranking, policy.exploration)
    return Decision(
        ranking=tuple(ranking),
        reason=f"{reason} {outcome}",
        router_kind=router_kind,
        policy_name=policy.name,
        policy_sha256=policy.sha256(),
        artifact_sha256=artifact_sha256,
        excluded=dict(excluded or {}),
    )


def _costs(input_tokens: int, candidate: Candidate, forecast: Forecast) -> tuple[int, int]:
    """Forecast cost in nano-dollars at the median and at the upper quantile of the output's length."""
    card = candidate.card
    if not card.priced:
        return 0, 0
    return (
        card.cost_nanousd(input_tokens, forecast.output_tokens),
        card.cost_nanousd(input_tokens, forecast.output_tokens_high),
    )


def _scores(
    objective: Objective, candidates: Sequence[Candidate], forecasts: Sequence[Forecast], costs: Sequence[int]
) -> list[float]:
    dearest = 0
    cost_weight, latency_weight = objective.cost, objective.latency
    if cost_weight:
        dearest = max((cost for one, cost in zip(candidates, costs, strict=True) if one.card.priced), default=0)
    quality_weight, cost_scale = objective.quality, objective.cost_scale_usd * _NANO
    latency_scale = objective.latency_scale_ms
    scores = []
    for one, told, cost in zip(candidates, forecasts, costs, strict=True):
        score = quality_weight * _finite(told.quality, 0.0)
        if cost_weight:
            score -= cost_weight * ((cost or (0 if one.card.priced else dearest)) / cost_scale)
        if latency_weight:
            score -= latency_weight * (_finite(told.latency_ms, -_WORST) / latency_scale)
        scores.append(max(score, _WORST))
    return scores


def _finite(value: float, otherwise: float) -> float:
    return value if math.isfinite(value) else otherwise


def _propensities(
    candidates: Sequence[Candidate], scores: Sequence[float], exploration: float
) -> tuple[list[float], set[int]]:
    """The probability of each candidate to be drawn, and the indices of those that share the best one's traffic."""
    best = max(scores)
    winners = {one.card.id for one, score in zip(candidates, scores, strict=True) if score == best}
    near = best - SAME_MODEL_TOLERANCE
    leaders = {
        index
        for index, (one, score) in enumerate(zip(candidates, scores, strict=True))
        if score == best or (score >= near and one.card.id in winners)
    }
    others = len(candidates) - len(leaders)
    kept = 1.0 - exploration if others else 1.0
    total = sum(candidates[index].endpoint.weight for index in leaders)
    explored = exploration / others if others else 0.0
    shares = [
        kept * (one.endpoint.weight / total) if index in leaders else explored for index, one in enumerate(candidates)
    ]
    return shares, leaders


def _draw(shares: Sequence[float], point: float) -> int:
    """The index whose stretch of the unit interval holds `point`."""
    passed = 0.0
    for index, share in enumerate(shares):
        passed += share
        if point < passed:
            return index
    # Rounding may leave the sum a hair under 1; the last candidate that can be drawn takes what is over.
    return max(index for index, share in enumerate(shares) if share > 0)


def _led(ranking: Sequence[Ranked], leaders: Sequence[str]) -> str:
    """Why the best is first, as a sentence; `leaders` are the models of those that share the best one's traffic."""
    chosen = ranking[0]
    if len(ranking) == 1:
        return f"{_name(chosen)} is the only candidate."
    if len(leaders) == 1:
        second = ranking[1]
        return f"{_name(chosen)} scored {chosen.score:.3f}, ahead of {_name(second)} with {second.score:.3f}."
    kind = "endpoints of this model" if len(set(leaders)) == 1 else "candidates with the best score"
    share = f"{chosen.propensity:.0%} for this one"
    return f"{_name(chosen)} scored {chosen.score:.3f}; {len(leaders)} {kind} share the traffic by weight, {share}."


def _explored(ranking: Sequence[Ranked], exploration: float) -> str:
    """Why another than the best is first, as a sentence."""
    chosen, best = ranking[0], ranking[1]
    return (
        f"{_name(chosen)} (score {chosen.score:.3f}) is tried in place of {_name(best)} ({best.score:.3f}),"
        f" as the policy explores with {exploration:.1%} of requests."
    )


def _name(ranked: Ranked) -> str:
    return f"'{ranked.candidate.card.id}' at '{ranked.candidate.endpoint.id}'"
