"""Issue, list and revoke virtual keys. A key's secret is shown once, in the answer to its creation."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.admission.key_store import KeyRow, RefusedKey, check_new
from gateway.api.admin.access import Admin, TheGateway
from gateway.api.raw import read_body
from gateway.errors import InvalidRequest, NotFound

router = APIRouter(prefix="/admin/keys")
MAX_BYTES = 64 * 1024


class NewKey(BaseModel):
    """What a new key may do."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    role: Literal["application", "admin"] = "application"
    policy: str | None = None
    allowed_models: list[str] | None = None
    expires_at: datetime | None = None


BODY = {"content": {"application/json": {"schema": NewKey.model_json_schema()}}, "required": True}


@router.post("", status_code=201, openapi_extra={"requestBody": BODY})
async def issue(request: Request, _: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Create a key."""
    # Not a parameter of FastAPI's, which would read the whole body before the caller is known.
    new = _parsed(await read_body(request.scope, request.receive, MAX_BYTES, gateway.settings.body_timeout_s))
    _check(new, gateway)
    row, token = await gateway.keys.issue(
        name=new.name,
        role=new.role,
        policy=new.policy,
        allowed_models=new.allowed_models,
        expires_at=new.expires_at,
    )
    return {**described(row), "key": token}


def _parsed(body: bytes) -> NewKey:
    try:
        return NewKey.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        param = ".".join(map(str, first["loc"])) or None
        raise InvalidRequest(f"'{param or 'body'}': {first['msg']}.", param=param) from error


def _check(new: NewKey, gateway: TheGateway) -> None:
    models = {card.id for card in gateway.fleet.catalogue.model}
    try:
        check_new(
            new.name,
            new.policy,
            new.allowed_models,
            new.expires_at,
            policies=gateway.policies.names(),
            models=models,
        )
    except RefusedKey as error:
        raise InvalidRequest(str(error), param=error.field) from error


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
