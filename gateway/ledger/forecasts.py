"""What was forecast of models beside what came, from the newest requests of the log; reads only.

Who gives feedback decides which requests are rated: the figures are those of rated requests, not of all.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.looking import looking
from gateway.ledger.tables import feedback, request_log

# Bounds the time a question takes: rankings are read as they were logged, about a kilobyte each.
NEWEST: Final = 600
BINS: Final = 5
DELTA: Final = 0.05


@dataclass(frozen=True, slots=True)
class Bin:
    """Rated requests whose forecast quality was from `low` to `high`. The true mean score of such requests lies between
    `score_low` and `score_high` with probability 0.95 (Hoeffding), if they were drawn alike."""

    low: float
    high: float
    requests: int
    forecast: float
    score: float
    score_low: float
    score_high: float


@dataclass(frozen=True, slots=True)
class Costs:
    """Sums in nano-dollars; quantiles of real cost over forecast cost, each None where no forecast was above 0."""

    requests: int
    forecast_nanousd: int
    real_nanousd: int
    ratio_p10: float | None
    ratio_p50: float | None
    ratio_p90: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """Of one model; `costs` None where no request had both costs."""

    model: str
    rated: int
    bins: tuple[Bin, ...]
    costs: Costs | None


async def calibration(engine: AsyncEngine, since: float, newest: int = NEWEST) -> list[Calibration]:
    """By model, from the newest `newest` ratings and as many other requests since a moment (Unix seconds). Raises
    `DatabaseUnavailable`."""
    log = request_log.c
    said = select(feedback).where(feedback.c.at >= since).order_by(feedback.c.at.desc()).limit(newest).subquery("said")
    rated = (
        select(said.c.request_id, func.avg(said.c.score).label("score")).group_by(said.c.request_id).subquery("rated")
    )
    scores = select(log.model, log.decision, rated.c.score).join(rated, rated.c.request_id == log.id)
    costs = (
        select(log.model, log.endpoint, log.decision, log.cost_nanousd)
        .where(log.at >= since, log.status == 200, log.cost_nanousd > 0, log.model.is_not(None))
        .order_by(log.at.desc())
        .limit(newest)
    )
    async with looking(engine) as connection:
        judged = (await connection.execute(scores)).all()
        paid = (await connection.execute(costs)).all()
    return _by_model(judged, paid)


def _by_model(judged: Iterable[Any], paid: Iterable[Any]) -> list[Calibration]:
    quality: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in judged:
        told = _forecast(row.decision, row.model, "quality")
        if told is not None:
            quality[row.model].append((told, float(row.score)))
    cost: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
    for row in paid:
        told = _forecast(row.decision, row.model, "cost_nanousd", row.endpoint)
        if told is not None:
            cost[row.model].append((told, row.cost_nanousd))
    return [
        Calibration(model, len(quality[model]), _bins(quality[model]), _costs(cost[model]))
        for model in sorted({*quality, *cost})
    ]


def _forecast(decision: Any, model: str | None, what: str, endpoint: str | None = None) -> float | None:
    """What the ranking said of the model that answered, of this endpoint where it is in it."""
    if not isinstance(decision, list):
        return None
    told = [one for one in decision if isinstance(one, dict) and one.get("model") == model]
    told.sort(key=lambda one: one.get("endpoint") != endpoint)
    value = told[0].get(what) if told else None
    return float(value) if isinstance(value, int | float) else None


def _bins(pairs: Sequence[tuple[float, float]]) -> tuple[Bin, ...]:
    """Bins that hold any request."""
    inside: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
    for told, score in pairs:
        inside[min(BINS - 1, max(0, int(told * BINS)))].append((told, score))
    return tuple(_bin(place, inside[place]) for place in sorted(inside))


def _bin(place: int, pairs: Sequence[tuple[float, float]]) -> Bin:
    count = len(pairs)
    told, score = (sum(column) / count for column in zip(*pairs, strict=True))
    reach = math.sqrt(math.log(2 / DELTA) / (2 * count))
    return Bin(place / BINS, (place + 1) / BINS, count, told, score, max(0.0, score - reach), min(1.0, score + reach))


def _costs(pairs: Sequence[tuple[float, int]]) -> Costs | None:
    if not pairs:
        return None
    ratios = sorted(real / told for told, real in pairs if told > 0)
    told, real = (round(sum(column)) for column in zip(*pairs, strict=True))
    if not ratios:
        return Costs(len(pairs), told, real, None, None, None)
    tenths = quantiles(ratios, n=10, method="inclusive") if len(ratios) > 1 else ratios * 9
    return Costs(len(pairs), told, real, tenths[0], tenths[4], tenths[8])
