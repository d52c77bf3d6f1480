"""Organisations: whom teams belong to."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from gateway.admission.grants import TenantRow
from gateway.admission.rules import Scope
from gateway.admission.terms import Terms, check_terms
from gateway.api.admin.access import Admin, PathId, TheGateway, TheStores, known_of
from gateway.api.admin.bodies import NewTermsBody, TermsBody, described_body, read_json, refusals
from gateway.api.admin.shown import shown_tenant
from gateway.api.admin.tenants import change_tenant, found, revoke_tenant
from gateway.state import Gateway

router = APIRouter(prefix="/admin/organisations")


@router.post("", status_code=201, openapi_extra=described_body(NewTermsBody))
async def create(request: Request, caller: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Create an organisation."""
    new = await read_json(request, gateway, NewTermsBody)
    return shown_tenant(await create_organisation(new, gateway, caller.key_id))


async def create_organisation(new: NewTermsBody, gateway: Gateway, actor: str) -> TenantRow:
    """The new organisation."""
    terms = Terms(**new.model_dump())
    with refusals():
        check_terms(terms, known_of(gateway))
        return await gateway.stores.tenants.create_organisation(terms, actor=actor)


@router.get("")
async def list_organisations(_: Admin, stores: TheStores) -> dict[str, Any]:
    """All organisations, the revoked too."""
    return {"data": [shown_tenant(row) for row in await stores.tenants.list(Scope.ORGANISATION)]}


@router.get("/{organisation_id}")
async def show(organisation_id: PathId, _: Admin, stores: TheStores) -> dict[str, Any]:
    """One organisation."""
    row = await stores.tenants.get(Scope.ORGANISATION, organisation_id)
    return shown_tenant(found(row, Scope.ORGANISATION, organisation_id))


@router.patch("/{organisation_id}", openapi_extra=described_body(TermsBody))
async def change(organisation_id: PathId, request: Request, caller: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Change what is given; in force for all its keys at once."""
    body = await read_json(request, gateway, TermsBody)
    return shown_tenant(await change_tenant(Scope.ORGANISATION, organisation_id, body, gateway, caller.key_id))


@router.delete("/{organisation_id}")
async def revoke(organisation_id: PathId, caller: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Revoke an organisation with all keys of its teams, on all workers at once."""
    await revoke_tenant(Scope.ORGANISATION, organisation_id, gateway, caller.key_id)
    return {"id": organisation_id, "revoked": True}
