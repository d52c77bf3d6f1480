"""Models and their endpoints: what they cost, how they do, and whether calls are held back."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway.api.admin.access import gateway_of
from gateway.dispatch.breaker import State
from gateway.dispatch.health import Vitals
from gateway.state import Gateway
from gateway.ui.answers import is_htmx, page
from gateway.ui.doors import Visitor
from gateway.ui.usage import period_of
from policies.catalogue import Endpoint

router = APIRouter(prefix="/models")


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
    gateway, stretch = gateway_of(request), period_of(period)
    asked = {one.name: one.sums for one in await gateway.console.usage.by_model(stretch)}
    seen = [endpoint_seen(gateway, row) for row in gateway.fleet.catalogue.endpoint]
    served = [card for card in gateway.fleet.catalogue.model if any(one.endpoint.model == card.id for one in seen)]
    shown = {
        "period": stretch,
        "usable": [(card, card.prices(), asked.get(card.id)) for card in served if gateway.fleet.of_model(card.id)],
        "unusable": [(card, gateway.fleet.why_not(card.id)) for card in served if not gateway.fleet.of_model(card.id)],
        "endpoints": sorted((one for one in seen if one.state != "off"), key=lambda one: one.endpoint.id),
    }
    return page(request, "models_live.html" if is_htmx(request) else "models.html", session, 200, **shown)


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
