"""What the pages of organisations and of teams do alike. The words in `Kind` are what templates say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from gateway.admission.grants import TenantRow
from gateway.admission.rules import Scope
from gateway.admission.tenant_store import TenantScope
from gateway.api.admin.access import gateway_of
from gateway.api.admin.bodies import TermsBody
from gateway.api.admin.tenants import change_tenant, found, revoke_tenant
from gateway.errors import InvalidRequest
from gateway.ui.answers import page, to
from gateway.ui.doors import Acting, Form
from gateway.ui.forms import body_of, faults_of
from gateway.ui.names import names_of
from gateway.ui.sessions import Session
from gateway.ui.terms import terms_from, terms_shown


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the two; `above` is what terms are inherited from, `below` what ends with it."""

    scope: TenantScope
    path: str
    title: str
    lead: str
    above: str
    below: str


async def list_page(request: Request, session: Session, kind: Kind) -> Response:
    """All of them, the living first, with how many stand below each."""
    gateway = gateway_of(request)
    rows = sorted(await gateway.stores.tenants.list(kind.scope), key=lambda row: (bool(row.revoked_at), row.name))
    names = await names_of(gateway.stores)
    counts = {row.id: len(await _below(request, kind, row.id)) for row in rows}
    return page(request, "tenants.html", session, kind=kind, rows=rows, names=names, counts=counts)


async def new_page(
    request: Request, session: Session, kind: Kind, form: Form, error: InvalidRequest | None = None
) -> Response:
    """The form of a new one."""
    known = await _known(request, kind, error)
    return page(request, "tenant_new.html", session, _status(error), kind=kind, form=form, **known)


async def one_page(
    request: Request,
    session: Session,
    kind: Kind,
    tenant_id: str,
    form: Form | None = None,
    error: InvalidRequest | None = None,
) -> Response:
    """One, with a form to change it and what stands below."""
    row = await _row(request, kind, tenant_id)
    known = await _known(request, kind, error)
    shown = {"row": row, "below": await _below(request, kind, tenant_id), "form": form or terms_shown(row)}
    return page(request, "tenant.html", session, _status(error), kind=kind, **shown, **known)


async def change(request: Request, acting: Acting, kind: Kind, tenant_id: str) -> Response:
    """Change the terms of one."""
    session, form = acting
    row = await _row(request, kind, tenant_id)
    try:
        body = body_of(TermsBody, terms_from(form, row.metadata))
        await change_tenant(kind.scope, tenant_id, body, gateway_of(request), session.subject)
    except InvalidRequest as error:
        return await one_page(request, session, kind, tenant_id, form, error)
    return to(request, f"{kind.path}/{tenant_id}", f"The {kind.scope} is changed, for all its keys.")


async def revoke(request: Request, acting: Acting, kind: Kind, tenant_id: str) -> Response:
    """The end of one, with all keys below it."""
    row = await _row(request, kind, tenant_id)
    await revoke_tenant(kind.scope, tenant_id, gateway_of(request), acting.session.subject)
    return to(request, kind.path, f"The {kind.scope} '{row.name}' is revoked, with all its keys.")


async def _row(request: Request, kind: Kind, tenant_id: str) -> TenantRow:
    return found(await gateway_of(request).stores.tenants.get(kind.scope, tenant_id), kind.scope, tenant_id)


async def _below(request: Request, kind: Kind, tenant_id: str) -> Sequence[Any]:
    """Living teams of an organisation, living keys of a team."""
    stores = gateway_of(request).stores
    if kind.scope is Scope.ORGANISATION:
        teams = await stores.tenants.list(Scope.TEAM, tenant_id)
        return [row for row in teams if row.revoked_at is None]
    return [row for row in await stores.keys.list(tenant_id) if row.revoked_at is None]


async def _known(request: Request, kind: Kind, error: InvalidRequest | None) -> dict[str, Any]:
    gateway = gateway_of(request)
    organisations = await gateway.stores.tenants.list(Scope.ORGANISATION)
    return {
        "faults": faults_of(error) if error is not None else {},
        "organisations": [(row.id, row.name) for row in organisations if row.revoked_at is None],
        "names": await names_of(gateway.stores),
        "policies": sorted(gateway.policies.names()),
        "models": [card.id for card in gateway.fleet.catalogue.model],
    }


def _status(error: InvalidRequest | None) -> int:
    return 200 if error is None else error.http_status
