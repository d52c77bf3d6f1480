"""Models and their endpoints: what they cost, how they do, and whether calls are held back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway.api.admin.access import gateway_of
from gateway.dispatch.breaker import State
from gateway.dispatch.health import Vitals
from gateway.ledger import usage
from gateway.ledger.forecasts import Calibration, calibration
from gateway.state import Gateway
from gateway.ui.answers import is_htmx, page
from gateway.ui.charts import chart, series
from gateway.ui.doors import Visitor
from gateway.ui.periods import period_of
from gateway.ui.rendering import percent
from policies.catalogue import Endpoint

router = APIRouter(prefix="/models")
MOST_DRAWN: Final = 4


@dataclass(frozen=True, slots=True)
class Seen:
    """An endpoint as this worker sees it; times in ms to the first byte, None before the first success."""

    endpoint: Endpoint
    state: str
    kind: str
    reason: str = ""
    latency_ms: float | None = None
    p95_ms: float | None = None
    in_flight: int = 0


@router.get("")
async def show(request: Request, session: Visitor, period: str = "24h") -> Response:
    """Every model that can be asked, and every endpoint; htmx asks again for its part that changes."""
    gateway, stretch = gateway_of(request), usage.stretch_of(period_of(period))
    groups, forecasts = await asyncio.gather(
        usage.groups(gateway.engine, stretch, "model", limit=usage.MOST_GROUPS),
        calibration(gateway.engine, usage.stretch_of("30d").start),
    )
    asked = {one.name: one.sums for one in groups}
    seen = [endpoint_seen(gateway, row) for row in gateway.fleet.catalogue.endpoint]
    served = [card for card in gateway.fleet.catalogue.model if any(one.endpoint.model == card.id for one in seen)]
    shown: dict[str, Any] = {
        "period": period_of(period),
        "usable": [(card, card.prices(), asked.get(card.id)) for card in served if gateway.fleet.of_model(card.id)],
        "unusable": [(card, gateway.fleet.why_not(card.id)) for card in served if not gateway.fleet.of_model(card.id)],
        "forecasts": forecasts,
        "reliability": reliability(forecasts),
        "endpoints": sorted((one for one in seen if one.state != "off"), key=lambda one: one.endpoint.id),
    }
    return page(request, "models_live.html" if is_htmx(request) else "models.html", session, **shown)


def reliability(forecasts: Sequence[Calibration]) -> dict[str, Any] | None:
    """Forecast quality beside mean feedback: one dot for each bin of the models that were rated most, on a diagonal
    where both are the same. None where nothing was rated."""
    rated = sorted((one for one in forecasts if one.bins), key=lambda one: -one.rated)[:MOST_DRAWN]
    if not rated:
        return None
    at = sorted({0.0, 1.0, *(one.forecast for model in rated for one in model.bins)})
    lines = []
    for model in rated:
        score = {one.forecast: one.score for one in model.bins}
        lines.append(series(model.model, [score.get(x) for x in at], percent))
    ideal = series("As forecast", at, percent, line=True, dash=[4, 4])
    look: dict[str, Any] = {"kind": "dots", "unit": "share", "time": False, "x": "Forecast quality", "x_unit": "share"}
    return chart(at, *lines, ideal, **look)


def endpoint_seen(gateway: Gateway, row: Endpoint) -> Seen:
    """What calls to it meet now."""
    if row.id not in gateway.fleet.targets:
        return Seen(row, "off", "", gateway.fleet.disabled.get(row.id, ""))
    health = gateway.console.health
    vitals, paused_s = health.of(row.id), health.paused_s(row.id)
    state, kind, reason = _standing(vitals, paused_s, bool(health.in_state(State.HALF_OPEN).get(row.id)))
    return Seen(row, state, kind, reason, vitals.latency_ms, vitals.p95_ms() or None, vitals.in_flight)


def _standing(vitals: Vitals, paused_s: float, half_open: bool) -> tuple[str, str, str]:
    """What state it is in, the kind of its badge, and what that means."""
    if paused_s > 0:
        return "held back", "bad", f"for {paused_s:.0f} s"
    if half_open:
        return "on trial", "warn", "one call at a time"
    if vitals.breaker.is_suspect:
        return "unsure", "warn", "its last call failed"
    return ("not asked yet", "", "") if vitals.latency_ms is None else ("well", "good", "")
