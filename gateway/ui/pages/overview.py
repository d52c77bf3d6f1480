"""How it goes: spending, requests, times, cache, models and budgets of a stretch of time."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway.admission.burn_down import BurnDown, burn_down
from gateway.admission.gauges import GaugesUnavailable, Level
from gateway.admission.rules import Budget
from gateway.api.admin.access import gateway_of
from gateway.api.admin.usage import false_hits
from gateway.ledger import usage
from gateway.state import Gateway
from gateway.ui.answers import is_htmx, page
from gateway.ui.charts import chart, series
from gateway.ui.doors import Visitor
from gateway.ui.names import names_of
from gateway.ui.periods import period_of
from gateway.ui.rendering import ms, number, percent, usd

router = APIRouter()
MOST_BUDGETS: Final = 6
MOST_MODELS: Final = 8
DAY_S: Final = 86_400


@router.get("")
async def show(request: Request, session: Visitor, period: str = "24h") -> Response:
    """The page; htmx asks again for its part that changes."""
    gateway, stretch = gateway_of(request), usage.stretch_of(period_of(period))
    found, models, budgets, likeness = await asyncio.gather(
        usage.overview(gateway.engine, stretch),
        usage.groups(gateway.engine, stretch, "model", limit=MOST_MODELS),
        _budgets(gateway),
        false_hits(gateway),
    )
    shown: dict[str, Any] = {
        "period": period_of(period),
        "total": found.total,
        "charts": _charts(found),
        "models": models,
        "budgets": budgets,
        "likeness": likeness,
        "names": await names_of(gateway.stores),
    }
    return page(request, "overview_live.html" if is_htmx(request) else "overview.html", session, **shown)


def _charts(found: usage.Overview) -> dict[str, dict[str, Any]]:
    at, points = list(found.stretch.starts), found.points
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
            series("Half of the answers within", [one.latency.p50_ms for one in points], ms),
            series("95 of 100 within", [one.latency.p95_ms for one in points], ms, dash=[6, 4]),
            unit="ms",
            kind="line",
        ),
        "cache": chart(at, series("Answered from the cache", [one.hit_share for one in points], percent), unit="share"),
    }


async def _budgets(gateway: Gateway) -> list[tuple[Level, float | None]]:
    """The budgets that are used up most, first, and when each is at the end if it goes on so."""
    budgets = await gateway.stores.rules.list(Budget)
    try:
        levels = await gateway.gauges.levels(budgets) if budgets else []
    except GaugesUnavailable:
        return []
    first = sorted(levels, key=_used, reverse=True)[:MOST_BUDGETS]
    courses = await asyncio.gather(*(burn_down(gateway.engine, level.budget) for level in first))
    return [(level, _soon(course)) for level, course in zip(first, courses, strict=True)]


def _soon(course: BurnDown) -> float | None:
    """When a budget is at its end; what never starts afresh is worth a word in its last month only."""
    ends = course.exhausted_at
    if ends is None or (course.resets_at is None and ends > time.time() + 30 * DAY_S):
        return None
    return ends


def _used(level: Level) -> float:
    return (level.spent_nanousd + level.reserved_nanousd) / max(level.budget.limit_nanousd, 1)
