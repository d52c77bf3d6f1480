"""Teams: whom keys belong to."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from gateway.admission.grants import TenantRow
from gateway.admission.rules import Scope
from gateway.admission.terms import Terms, check_terms
from gateway.api.admin.access import Admin, PathId, QueryId, TheGateway, TheStores, known_of
from gateway.api.admin.bodies import NewTermsBody, TermsBody, described_body, read_json, refusals
from gateway.api.admin.shown import shown_tenant
from gateway.api.admin.tenants import change_tenant, found, revoke_tenant
from gateway.state import Gateway

router = APIRouter(prefix="/admin/teams")


class NewTeam(NewTermsBody):
    """A team of an organisation that exists."""

    organisation_id: str


@router.post("", status_code=201, openapi_extra=described_body(NewTeam))
async def create(request: Request, caller: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Create a team."""
    return shown_tenant(await create_team(await read_json(request, gateway, NewTeam), gateway, caller.key_id))


async def create_team(new: NewTeam, gateway: Gateway, actor: str) -> TenantRow:
    """The new team."""
    terms = Terms(**new.model_dump(exclude={"organisation_id"}))
    with refusals():
        check_terms(terms, known_of(gateway))
        return await gateway.stores.tenants.create_team(new.organisation_id, terms, actor=actor)


@router.get("")
async def list_teams(_: Admin, stores: TheStores, organisation_id: QueryId | None = None) -> dict[str, Any]:
    """All teams (of an organisation), the revoked too."""
    return {"data": [shown_tenant(row) for row in await stores.tenants.list(Scope.TEAM, organisation_id)]}


@router.get("/{team_id}")
async def show(team_id: PathId, _: Admin, stores: TheStores) -> dict[str, Any]:
    """One team."""
    return shown_tenant(found(await stores.tenants.get(Scope.TEAM, team_id), Scope.TEAM, team_id))


@router.patch("/{team_id}", openapi_extra=described_body(TermsBody))
async def change(team_id: PathId, request: Request, caller: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Change what is given; in force for all its keys at once."""
    body = await read_json(request, gateway, TermsBody)
    return shown_tenant(await change_tenant(Scope.TEAM, team_id, body, gateway, caller.key_id))


@router.delete("/{team_id}")
async def revoke(team_id: PathId, caller: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Revoke a team with all its keys, on all workers at once."""
    await revoke_tenant(Scope.TEAM, team_id, gateway, caller.key_id)
    return {"id": team_id, "revoked": True}
