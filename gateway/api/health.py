"""`/health/live`, `/health/ready`, `/metrics`: for orchestrators and scrapers; only the figures can ask for a key."""

from __future__ import annotations

import hmac
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from gateway.api.admin.access import Described, admin_of
from gateway.state import Gateway

router = APIRouter()


@router.get("/health/live")
async def live() -> dict[str, str]:
    """The process runs its loop."""
    return {"status": "live"}


@router.get("/health/ready")
async def ready(request: Request) -> JSONResponse:
    """200 once requests can be answered; what is away is told, but only leaving stops requests."""
    gateway: Gateway = request.app.state.gateway
    stats = gateway.ledger.stats()
    able = gateway.ready and not gateway.leaving.begun
    body: dict[str, Any] = {
        "status": "leaving" if gateway.leaving.begun else "ready" if gateway.ready else "starting",
        "database": "up" if stats.database_up else "away: records wait on disk",
        "redis": _redis(gateway),
        "embedder": _embedder(gateway),
        "endpoints": len(gateway.fleet.targets),
        "policies": gateway.policies.names(),
        "refused_policies": gateway.policies.refused,
    }
    return JSONResponse(body, status_code=200 if able else 503)


def _redis(gateway: Gateway) -> str:
    if gateway.link is None:
        return "not used: budgets are in the database, each process has its share of rate limits"
    if gateway.link.state.up:
        return "up"
    return "away: each process has its share of rate limits, hard budgets refuse or pass as the policy says"


def _embedder(gateway: Gateway) -> str:
    if gateway.embedding.is_failing:
        return "away: categories come from predicates"
    return "ready" if gateway.preparing.ready else "not loaded"


@router.get("/metrics", responses={401: {"description": "FINGERPOST_METRICS_KEY is set, and is not what came"}})
async def metrics(request: Request, _: Described) -> Response:
    """Prometheus text exposition; where FINGERPOST_METRICS_KEY is set it takes that key, or an admin's."""
    gateway: Gateway = request.app.state.gateway
    await _check_scraper(request, gateway)
    body, content_type = gateway.metrics.render()
    return Response(body, media_type=content_type)


async def _check_scraper(request: Request, gateway: Gateway) -> None:
    """Raises 401 without a key, 403 for an application's."""
    key = gateway.settings.metrics_key
    if key is None:
        return
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    expected = key.get_secret_value().encode()
    if kind.lower() == "bearer" and hmac.compare_digest(token.strip().encode("latin-1"), expected):
        return
    await admin_of(request)
