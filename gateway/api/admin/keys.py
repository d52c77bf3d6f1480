"""Issue, list and revoke virtual keys. A key's secret is shown once, in the answer to its creation."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from gateway.admission.key_store import KeyRow
from gateway.api.admin.access import Admin, TheGateway
from gateway.errors import InvalidRequest, NotFound

router = APIRouter(prefix="/admin/keys")


class NewKey(BaseModel):
    """What a new key may do."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    role: Literal["application", "admin"] = "application"
    policy: str | None = None
    allowed_models: list[str] | None = None
    expires_at: datetime | None = None


@router.post("", status_code=201)
async def issue(new: NewKey, _: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Create a key."""
    if new.policy is not None and gateway.policies.current(new.policy) is None:
        known = ", ".join(gateway.policies.names())
        raise InvalidRequest(f"There is no policy '{new.policy}'; known: {known}.", param="policy")
    row, token = await gateway.keys.issue(
        name=new.name,
        role=new.role,
        policy=new.policy,
        allowed_models=new.allowed_models,
        expires_at=new.expires_at,
    )
    return {**described(row), "key": token}


@router.get("")
async def list_keys(_: Admin, gateway: TheGateway) -> dict[str, Any]:
    """All keys, without secrets."""
    return {"data": [described(row) for row in await gateway.keys.list()]}


@router.delete("/{key_id}")
async def revoke(key_id: str, _: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Revoke a key; this process forgets it at once, others within the keyring's few seconds."""
    if not await gateway.keys.revoke(key_id):
        raise NotFound(f"There is no key '{key_id[:80]}', or it is revoked already.")
    gateway.keyring.forget(key_id)
    return {"id": key_id, "revoked": True}


def described(row: KeyRow) -> dict[str, Any]:
    """A key without its hash."""
    return {
        "id": row.id,
        "name": row.name,
        "role": row.role,
        "policy": row.policy,
        "allowed_models": list(row.allowed_models) if row.allowed_models is not None else None,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
    }
