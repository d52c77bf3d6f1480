"""`/health/live`, `/health/ready`, `/metrics`: for orchestrators and scrapers, no key needed."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from gateway.state import Gateway

router = APIRouter()


@router.get("/health/live")
async def live() -> dict[str, str]:
    """The process runs its loop."""
    return {"status": "live"}


@router.get("/health/ready")
async def ready(request: Request) -> JSONResponse:
    """200 once requests can be answered; the database being away is reported, but does not stop requests."""
    gateway: Gateway = request.app.state.gateway
    stats = gateway.ledger.stats()
    body: dict[str, Any] = {
        "status": "ready" if gateway.ready else "starting",
        "database": "up" if stats.database_up else "away: records wait on disk",
        "embedder": "ready" if gateway.embedding_ready else "not loaded",
        "endpoints": len(gateway.fleet.targets),
        "policies": gateway.policies.names(),
        "refused_policies": gateway.policies.refused,
    }
    return JSONResponse(body, status_code=200 if gateway.ready else 503)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus text exposition."""
    gateway: Gateway = request.app.state.gateway
    body, content_type = gateway.metrics.render()
    return Response(body, media_type=content_type)
