"""How a request's traffic is shared out for learning's sake: inverse gap weighting among what is safe to try.

Closed form, so that every propensity is exact (Abe & Long 1999; Foster & Rakhlin 2020, SquareCB). Draws nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from policies.schema import Learning, Objective
from routers.decision import Candidate, Forecast


@dataclass(frozen=True, slots=True)
class Safety:
    """What may be tried: at most `share` of requests; only who could still come within `within` of the best score,
    whose quality keeps `floor` at its lower bound, and who costs at most `allowance_nanousd` beyond the best candidate
    (None: no bound). Bounds of quality are those of forecasts: each holds with 95 %."""

    share: float
    within: float = 0.0
    floor: float = 0.0
    allowance_nanousd: int | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """Candidates by place: their scores, the scores that they would have at their upper quality bounds, their lower
    quality bounds, and what each may cost beyond the best one (nano-dollars, at the upper quantile of its output)."""

    scores: Sequence[float]
    scores_high: Sequence[float]
    qualities_low: Sequence[float]
    extra_nanousd: Sequence[int]


def tried_shares(
    pool: Pool, places: Collection[int], best: float, eagerness: float, safety: Safety
) -> dict[int, float]:
    """The probability of each candidate among `places` that is worth a try and safe; the rest is the leaders'.

    A candidate whose score lies `gap` under the best gets 1 / (K + eagerness x gap) of the traffic, where K counts
    what is compared, the best one too; all are scaled down together where their sum would pass the safety's share.
    """
    allowed = safety.allowance_nanousd
    safe = [
        place
        for place in places
        if pool.scores_high[place] >= best - safety.within
        and pool.qualities_low[place] >= safety.floor
        and (allowed is None or pool.extra_nanousd[place] <= allowed)
    ]
    if not safe or safety.share <= 0:
        return {}
    compared = len(safe) + 1
    shares = {place: 1 / (compared + eagerness * max(best - pool.scores[place], 0.0)) for place in safe}
    scale = min(1.0, safety.share / sum(shares.values()))
    return {place: share * scale for place, share in shares.items()}


def tried(
    share: float,
    learning: Learning,
    objective: Objective,
    candidates: Sequence[Candidate],
    forecasts: Sequence[Forecast],
    scores: Sequence[float],
    costs: Sequence[tuple[int, int]],
    inside: Collection[int],
    leaders: Collection[int],
    allowance_nanousd: int | None,
) -> dict[int, float] | None:
    """Whom a request tries and with which probability, by place; None where the router does not go on learning.

    `share` of all requests may try, `costs` are forecast costs, expected and at the upper quantile, `inside` who keeps
    to the objective's bounds. Where there is an allowance, a model without a price is not tried: nobody knows what it
    takes of it.
    """
    eagerness = forecasts[0].eagerness
    if eagerness is None:
        return None
    safety = Safety(share, learning.within, objective.min_quality, allowance_nanousd)
    if share <= 0:
        return {}
    best = max(scores[place] for place in leaders)
    weight = objective.quality
    pool = Pool(
        scores,
        [score + weight * (told.quality_high - told.quality) for score, told in zip(scores, forecasts, strict=True)],
        [told.quality_low for told in forecasts],
        extra_costs(costs, leaders),
    )
    others = [place for place in inside if place not in leaders]
    if allowance_nanousd is not None:
        others = [place for place in others if candidates[place].card.priced]
    return tried_shares(pool, others, best, eagerness, safety)


def extra_costs(costs: Sequence[tuple[int, int]], leaders: Collection[int]) -> list[int]:
    """What each candidate may cost at the upper quantile beyond the cheapest leader's expected cost, or 0."""
    usual = min(costs[place][0] for place in leaders)
    return [max(high - usual, 0) for _, high in costs]
