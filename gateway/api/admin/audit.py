"""The audit log, read."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from gateway.api.admin.access import Admin, TheStores
from gateway.api.admin.shown import shown_entry

router = APIRouter(prefix="/admin/audit")
Id = Annotated[int, Query(ge=1, le=2**31 - 1)]


@router.get("")
async def recent(
    _: Admin, stores: TheStores, limit: Annotated[int, Query(ge=1, le=1000)] = 100, before_id: Id | None = None
) -> dict[str, Any]:
    """The newest acts first; `before_id` leads to older ones."""
    return {"data": [shown_entry(entry) for entry in await stores.audit.list(limit, before_id)]}


@router.get("/verify")
async def verify(
    _: Admin, stores: TheStores, noted_sha256: Annotated[str | None, Query(pattern="^[0-9a-f]{64}$")] = None
) -> dict[str, Any]:
    """Whether the chain is whole, and the hash of its last sound row: note it down, and give it back later."""
    verdict = await stores.audit.verify(noted_sha256)
    return {"sound": verdict.sound, **asdict(verdict)}
