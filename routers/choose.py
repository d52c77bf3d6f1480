"""The one place where quality is traded against cost and latency; pure but for the random numbers it is given.

score = quality weight x quality - cost weight x budget multiplier x cost / cost scale - latency weight x latency /
latency scale, on expected values. Every candidate's propensity is exact, so that logs can be judged off policy.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from operator import attrgetter

from policies.schema import Policy
from routers.abstention import abstains
from routers.decision import Candidate, Decision, Forecast, Query, Ranked
from routers.exploration import extra_costs, tried
from routers.many import maker
from routers.objective import costs_of, scores_of, shortfalls

# Endpoints of the winning model whose score is this near the best share its traffic: prices are the model's own, so
# only latency tells them apart, and its small changes should not move all traffic from one to another.
SAME_MODEL_TOLERANCE = 0.05

_ranked = maker(Ranked)


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
    multiplier: float = 1.0,
    allowance_nanousd: int | None = None,
    explores: bool = True,
) -> Decision:
    """Rank the candidates and draw the one to call first; `ValueError` without candidates or on unequal lengths.

    Candidates that keep to the floor and ceilings of the category's objective go before all others; where none does,
    those that break them least. Of these the best score wins, unless the policy wants more certainty or trust than
    there is: then its default does. Candidates of exactly the winner's score, and endpoints of its model within
    `SAME_MODEL_TOLERANCE`, share the traffic by `endpoint.weight`. With probability `policy.exploration` another
    that keeps to the bounds is drawn instead, all equally likely; where the router goes on learning, who is worth a
    try and costs at most `allowance_nanousd` more (see `routers.exploration`). Where not `explores` nobody is, as for a
    request that a strategy answers: no single model can be judged by it. `multiplier` of the cost weight is the pace of
    a budget. Where cost counts, a model without a price is ranked as if a call cost as much as the dearest
    candidate of known price; its logged cost stays 0 for unknown. One draw of `rng`.
    """
    _check(candidates, forecasts)
    objective, tokens = policy.objective_of(query.category), query.features.tokens
    costs, costs_high = costs_of(tokens, candidates, forecasts)
    qualities, latencies = [told.quality for told in forecasts], [told.latency_ms for told in forecasts]
    scores = scores_of(objective, candidates, qualities, latencies, costs, multiplier)
    short = shortfalls(objective, candidates, forecasts, costs_high)
    inside = _inside(short, len(scores))
    doubt = abstains(policy.router, objective, multiplier, tokens, candidates, forecasts, scores, inside)
    leaders = _leaders(candidates, scores, inside, doubt[0] if doubt else None)
    share, both = policy.exploration if explores else 0.0, list(zip(costs, costs_high, strict=True))
    tries = tried(
        share, policy.learning, objective, candidates, forecasts, scores, both, inside, leaders, allowance_nanousd
    )
    shares = _propensities(candidates, inside, leaders, share, tries)
    ranking = _ranked(candidates, forecasts, costs, costs_high, scores, shares)
    place = _draw(shares, rng.random())
    best = max(leaders, key=scores.__getitem__)
    outcome = [reason, _bounded(short, inside), doubt[1] if doubt else "", _paced(multiplier)]
    if place not in leaders:
        outcome.append(_explored(ranking[place], ranking[best], share))
    elif doubt is None or len(leaders) > 1:
        outcome.append(_led(ranking[place], ranking, leaders, inside))
    return Decision(
        ranking=_ordered(ranking, short, place),
        reason=" ".join(filter(None, outcome)),
        router_kind=router_kind,
        policy_name=policy.name,
        policy_sha256=policy.sha256(),
        artifact_sha256=artifact_sha256,
        budget_multiplier=multiplier,
        excluded=dict(excluded or {}),
        extra_nanousd=0 if tries is None or place in leaders else extra_costs(both, leaders)[place],
    )


def _check(candidates: Sequence[Candidate], forecasts: Sequence[Forecast]) -> None:
    if not candidates:
        raise ValueError("there is no candidate to choose from")
    if len(candidates) != len(forecasts):
        raise ValueError(f"{len(candidates)} candidates but {len(forecasts)} forecasts")


def _inside(short: Sequence[float] | None, count: int) -> Sequence[int]:
    """Who may win: those that break the bounds least, which is not at all where anybody keeps to them."""
    if short is None:
        return range(count)
    least = min(short)
    return [index for index, one in enumerate(short) if one <= least]


def _leaders(
    candidates: Sequence[Candidate], scores: Sequence[float], inside: Sequence[int], default: int | None
) -> set[int]:
    """The indices of those that share the winner's traffic; `default` wins where it is given."""
    best = max(map(scores.__getitem__, inside)) if default is None else scores[default]
    if default is None:
        winners = {candidates[index].card.id for index in inside if scores[index] == best}
    else:
        winners = {candidates[default].card.id}
    near = best - SAME_MODEL_TOLERANCE
    return {index for index in inside if scores[index] >= near and candidates[index].card.id in winners}


def _propensities(
    candidates: Sequence[Candidate],
    inside: Sequence[int],
    leaders: set[int],
    exploration: float,
    tries: Mapping[int, float] | None,
) -> list[float]:
    """The probability of each candidate to be drawn; `tries` are those of the others, where they are not all alike."""
    if tries is None and not exploration:
        tries = {}
    elif tries is None:
        others = [index for index in inside if index not in leaders]
        tries = {index: exploration / len(others) for index in others}
    kept = 1.0 - sum(tries.values()) if tries else 1.0
    total = sum(candidates[index].endpoint.weight for index in leaders)
    shares = [0.0] * len(candidates)
    for index, share in tries.items():
        shares[index] = share
    for index in leaders:
        shares[index] = kept * (candidates[index].endpoint.weight / total)
    return shares


def _ordered(ranking: list[Ranked], short: Sequence[float] | None, place: int) -> tuple[Ranked, ...]:
    """The drawn one, then the others by score; those that break the bounds last, the least so first."""
    drawn = ranking[place]
    if short is None:
        ranking.pop(place)
        ranking.sort(key=attrgetter("score"), reverse=True)
        return (drawn, *ranking)
    order = sorted(range(len(ranking)), key=lambda index: (short[index], -ranking[index].score))
    return (drawn, *(ranking[index] for index in order if index != place))


def _draw(shares: Sequence[float], point: float) -> int:
    """The index whose stretch of the unit interval holds `point`."""
    passed = 0.0
    for index, share in enumerate(shares):
        passed += share
        if point < passed:
            return index
    # Rounding may leave the sum a hair under 1; the last candidate that can be drawn takes what is over.
    return max(index for index, share in enumerate(shares) if share > 0)


def _bounded(short: Sequence[float] | None, inside: Sequence[int]) -> str:
    """What the floor and ceilings did, as a sentence."""
    if short is None or (len(inside) == len(short) and not max(short)):
        return ""
    if short[inside[0]]:
        return "No candidate keeps to the objective's floor and ceilings; the one that breaks them least is called."
    return f"{len(short) - len(inside)} of {len(short)} candidates break the objective's floor or ceilings."


def _paced(multiplier: float) -> str:
    return f"Cost counts {multiplier:.2f} times, to keep the budget's pace." if multiplier != 1.0 else ""


def _led(chosen: Ranked, ranking: Sequence[Ranked], leaders: set[int], inside: Sequence[int]) -> str:
    """Why the best is first, as a sentence."""
    if len(ranking) == 1:
        return f"{_name(chosen)} is the only candidate."
    if len(leaders) == 1:
        rest = [index for index in inside if index not in leaders]
        if not rest:
            return f"{_name(chosen)} scored {chosen.score:.3f}."
        second = ranking[max(rest, key=[one.score for one in ranking].__getitem__)]
        return f"{_name(chosen)} scored {chosen.score:.3f}, ahead of {_name(second)} with {second.score:.3f}."
    models = {ranking[index].candidate.card.id for index in leaders}
    kind = "endpoints of this model" if len(models) == 1 else "candidates with the best score"
    share = f"{chosen.propensity:.0%} for this one"
    return f"{_name(chosen)} scored {chosen.score:.3f}; {len(leaders)} {kind} share the traffic by weight, {share}."


def _explored(chosen: Ranked, best: Ranked, exploration: float) -> str:
    """Why another than the best is first, as a sentence."""
    return (
        f"{_name(chosen)} (score {chosen.score:.3f}) is tried in place of {_name(best)} ({best.score:.3f}),"
        f" as the policy explores with {exploration:.1%} of requests."
    )


def _name(ranked: Ranked) -> str:
    return f"'{ranked.candidate.card.id}' at '{ranked.candidate.endpoint.id}'"
