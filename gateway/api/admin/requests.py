"""The ledger, read: the last requests, one request, and totals."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from gateway.api.admin.access import Admin, PathId, TheGateway
from gateway.errors import NotFound
from gateway.ledger import reports

router = APIRouter(prefix="/admin/requests")


@router.get("")
async def recent(_: Admin, gateway: TheGateway, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> dict[str, Any]:
    """The newest requests first."""
    return {"data": await reports.recent(gateway.engine, limit)}


@router.get("/totals")
async def totals(
    _: Admin,
    gateway: TheGateway,
    by: Literal["model", "day", "key"] = "model",
    days: Annotated[int, Query(ge=1, le=36500)] = 30,
) -> dict[str, Any]:
    """Requests, tokens and cost (nano-dollars) over the last days."""
    return {"data": await reports.totals(gateway.engine, by, days)}


@router.get("/{request_id}")
async def one(request_id: PathId, _: Admin, gateway: TheGateway) -> dict[str, Any]:
    """One request with its decision."""
    row = await reports.by_id(gateway.engine, request_id)
    if row is None:
        raise NotFound(f"There is no request '{request_id[:80]}' in the ledger (yet).")
    return row
