"""Show the policies in force, and push a new version of one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from gateway.api.admin.access import Admin, TheGateway
from gateway.api.raw import read_body
from gateway.errors import InvalidRequest, NotFound
from gateway.lifecycle.run import prepare_policies
from policies.check import check_policy
from policies.errors import PolicyError
from policies.load import parse_policy

router = APIRouter(prefix="/admin/policies")
MAX_BYTES = 1024 * 1024


@router.get("")
async def list_policies(_: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Names, hashes and sources of what is in force."""
    rows = [
        {"name": one.policy.name, "sha256": one.sha256, "source": one.source, "description": one.policy.description}
        for one in gateway.policies.all()
    ]
    return {"data": rows, "refused": gateway.policies.refused}


@router.get("/{name}")
async def show(name: str, _: Admin, gateway: TheGateway) -> dict[str, Any]:
    """One policy in full."""
    active = gateway.policies.current(name)
    if active is None:
        raise NotFound(f"There is no policy '{name[:80]}'.")
    body = active.policy.model_dump(mode="json", by_alias=True)
    return {"name": name, "sha256": active.sha256, "source": active.source, "policy": body}


BODY = {"content": {"application/toml": {"schema": {"type": "string"}}}, "required": True}


@router.put("", openapi_extra={"requestBody": BODY})
async def push(request: Request, caller: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Store a TOML policy as the newest version of its name; in force here at once, elsewhere within seconds."""
    body = await read_body(request.scope, request.receive, MAX_BYTES, gateway.settings.body_timeout_s)
    try:
        text = body.decode("utf-8")
        policy = parse_policy(text, "body")
        gateway.policies.activate(policy, "body")
    except (UnicodeDecodeError, PolicyError) as error:
        raise InvalidRequest(str(error)) from error
    await gateway.policy_versions.push(policy.name, text, author=caller.key_id, note="")
    await gateway.policies.refresh()
    await prepare_policies(gateway)
    return {
        "name": policy.name,
        "sha256": policy.sha256(),
        "warnings": check_policy(policy, gateway.fleet.catalogue),
    }
