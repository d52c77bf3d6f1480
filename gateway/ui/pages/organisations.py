"""Organisations: whom teams belong to."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway.admission.rules import Scope
from gateway.api.admin.access import PathId, gateway_of
from gateway.api.admin.bodies import NewTermsBody
from gateway.api.admin.organisations import create_organisation
from gateway.errors import InvalidRequest
from gateway.ui import tenants
from gateway.ui.answers import to
from gateway.ui.doors import Editing, Form, Visitor
from gateway.ui.forms import body_of
from gateway.ui.terms import terms_from

router = APIRouter(prefix="/organisations")
KIND: Final = tenants.Kind(
    Scope.ORGANISATION,
    "/organisations",
    "Organisations",
    "Teams belong to organisations, which share no cached answers with each other.",
    "the gateway",
    "teams",
)


@router.get("")
async def show_all(request: Request, session: Visitor) -> Response:
    """All of them."""
    return await tenants.list_page(request, session, KIND)


@router.get("/new")
async def ask(request: Request, session: Visitor) -> Response:
    """The form of a new one."""
    return await tenants.new_page(request, session, KIND, Form({}))


@router.post("")
async def create(request: Request, acting: Editing) -> Response:
    """A new one; the form again where something is wrong with it."""
    session, form = acting
    try:
        new = body_of(NewTermsBody, terms_from(form))
        row = await create_organisation(new, gateway_of(request), session.subject)
    except InvalidRequest as error:
        return await tenants.new_page(request, session, KIND, form, error)
    return to(request, f"{KIND.path}/{row.id}", f"The {KIND.scope} '{row.name}' is there.")


@router.get("/{tenant_id}")
async def show(tenant_id: PathId, request: Request, session: Visitor) -> Response:
    """One of them."""
    return await tenants.one_page(request, session, KIND, tenant_id)


@router.post("/{tenant_id}")
async def change(tenant_id: PathId, request: Request, acting: Editing) -> Response:
    """Change its terms."""
    return await tenants.change(request, acting, KIND, tenant_id)


@router.post("/{tenant_id}/revoke")
async def revoke(tenant_id: PathId, request: Request, acting: Editing) -> Response:
    """Its end."""
    return await tenants.revoke(request, acting, KIND, tenant_id)
