"""How it goes: spending, requests, times, cache, models and budgets of a stretch of time."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway.admission.gauges import GaugesUnavailable, Level
from gateway.admission.rules import Budget
from gateway.api.admin.access import gateway_of
from gateway.state import Gateway
from gateway.ui.answers import is_htmx, page
from gateway.ui.charts import chart, series
from gateway.ui.doors import Visitor
from gateway.ui.evidence import Likeness, likeness_of
from gateway.ui.names import names_of
from gateway.ui.rendering import ms, number, percent, usd
from gateway.ui.usage import Course, period_of

router = APIRouter()
MOST_BUDGETS = 6


@router.get("")
async def show(request: Request, session: Visitor, period: str = "24h") -> Response:
    """The page; htmx asks again for its part that changes."""
    gateway, stretch = gateway_of(request), period_of(period)
    usage = gateway.console.usage
    course, models, levels, likeness = await asyncio.gather(
        usage.course(stretch), usage.by_model(stretch), _levels(gateway), _likeness(gateway)
    )
    shown: dict[str, Any] = {
        "period": stretch,
        "total": course.total,
        "charts": _charts(course),
        "models": models,
        "levels": levels,
        "likeness": likeness,
        "names": await names_of(gateway.stores),
    }
    return page(request, "overview_live.html" if is_htmx(request) else "overview.html", session, **shown)


def _charts(course: Course) -> dict[str, dict[str, Any]]:
    at = [course.start + step * course.step_s for step in range(len(course.points))]
    points = course.points
    return {
        "spend": chart(
            at,
            series("Spent", [one.cost_nanousd / 1e9 for one in points], lambda dollars: usd(dollars * 1e9)),
            series("Saved by the cache", [one.saved_nanousd / 1e9 for one in points], lambda saved: usd(saved * 1e9)),
            unit="usd",
            kind="bars" if len(at) <= 31 else "area",
        ),
        "requests": chart(
            at,
            series("Requests", [one.requests for one in points], number),
            series("Errors", [one.errors for one in points], number),
        ),
        "latency": chart(
            at,
            series("Half of the answers within", [one.p50_ms for one in points], ms),
            series("95 of 100 within", [one.p95_ms for one in points], ms, dash=[6, 4]),
            unit="ms",
            kind="line",
        ),
        "cache": chart(at, series("Answered from the cache", [one.hit_share for one in points], percent), unit="share"),
    }


async def _levels(gateway: Gateway) -> list[Level]:
    """The budgets that are used up most, first."""
    budgets = await gateway.stores.rules.list(Budget)
    try:
        levels = await gateway.gauges.levels(budgets) if budgets else []
    except GaugesUnavailable:
        return []
    return sorted(levels, key=_used, reverse=True)[:MOST_BUDGETS]


def _used(level: Level) -> float:
    return (level.spent_nanousd + level.reserved_nanousd) / max(level.budget.limit_nanousd, 1)


async def _likeness(gateway: Gateway) -> Likeness:
    book = gateway.cache.trust
    return likeness_of([sums for _, _, sums in await book.evidence.read(book.calibration, None)])
