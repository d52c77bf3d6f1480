"""Keys: who may ask, on what terms. A new key's secret is shown once, on the page that answers its creation."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway.admission.grants import KeyRow
from gateway.api.admin.access import PathId, gateway_of
from gateway.api.admin.keys import KeyBody, NewKey, Rotation, change_key, issue_key, revoke_key, rotate_key
from gateway.errors import InvalidRequest, NotFound
from gateway.state import Gateway
from gateway.ui.answers import page, to
from gateway.ui.doors import Acting, Editing, Form, Visitor, allow
from gateway.ui.forms import body_of, faults_of
from gateway.ui.names import names_of
from gateway.ui.roles import Role
from gateway.ui.sessions import Session
from gateway.ui.terms import terms_from, terms_shown

router = APIRouter(prefix="/keys")
DAY_S = 86_400.0


@router.get("")
async def list_keys(request: Request, session: Visitor) -> Response:
    """All keys, newest first."""
    gateway = gateway_of(request)
    rows = sorted(await gateway.stores.keys.list(), key=lambda row: row.created_at, reverse=True)
    names = await names_of(gateway.stores)
    return page(request, "keys.html", session, rows=[(row, standing(row)) for row in rows], names=names)


@router.get("/new")
async def ask(request: Request, session: Visitor) -> Response:
    """The form of a new key."""
    return await _form(request, session, Form({}))


@router.post("")
async def issue(request: Request, acting: Editing) -> Response:
    """A new key with its secret; the form again where something is wrong with it."""
    session, form = acting
    allow(session, Role.ADMIN if form.get("role") == "admin" else Role.EDITOR)
    try:
        new = body_of(NewKey, {**terms_from(form), **form.given("role", "team_id")})
        row, secret = await issue_key(new, gateway_of(request), session.subject)
    except InvalidRequest as error:
        return await _form(request, session, form, error)
    return page(request, "key_secret.html", session, row=row, secret=secret, old=None)


@router.get("/{key_id}")
async def show(key_id: PathId, request: Request, session: Visitor) -> Response:
    """One key, with a form to change it."""
    row = await _found(gateway_of(request), key_id)
    return await _one(request, session, row, terms_shown(row) | {"team_id": row.team_id or ""})


@router.post("/{key_id}")
async def change(key_id: PathId, request: Request, acting: Editing) -> Response:
    """Change a key's terms."""
    session, form = acting
    row = await _meant(request, acting, key_id)
    try:
        body = body_of(KeyBody, {**terms_from(form, row.metadata), "team_id": form.get("team_id") or None})
        await change_key(key_id, body, gateway_of(request), session.subject)
    except InvalidRequest as error:
        return await _one(request, session, row, form, error)
    return to(request, f"/keys/{key_id}", "The key is changed, on all workers.")


@router.post("/{key_id}/rotate")
async def rotate(key_id: PathId, request: Request, acting: Editing) -> Response:
    """A new key in place of this one."""
    session, form = acting
    old = await _meant(request, acting, key_id)
    try:
        rotation = body_of(Rotation, form.given("overlap_s"))
        row, secret = await rotate_key(key_id, rotation, gateway_of(request), session.subject)
    except InvalidRequest as error:
        return await _one(request, session, old, terms_shown(old) | dict(form), error)
    return page(request, "key_secret.html", session, row=row, secret=secret, old=old)


@router.post("/{key_id}/revoke")
async def revoke(key_id: PathId, request: Request, acting: Editing) -> Response:
    """The end of a key."""
    row = await _meant(request, acting, key_id)
    await revoke_key(key_id, gateway_of(request), acting.session.subject)
    return to(request, "/keys", f"The key '{row.name}' is revoked, on all workers.")


def standing(row: KeyRow) -> tuple[str, str]:
    """What state a key is in, and the kind of its badge."""
    if row.revoked_at is not None:
        return "revoked", "bad"
    if not row.is_valid(time.time()):
        return "expired", "warn"
    if row.rotated_to is not None:
        return "being replaced", "warn"
    if row.expires_at is not None and row.expires_at.timestamp() < time.time() + 7 * DAY_S:
        return "expires soon", "warn"
    return "valid", "good"


async def _meant(request: Request, acting: Acting, key_id: str) -> KeyRow:
    """The key that somebody wants to act on; admin keys are for admins."""
    row = await _found(gateway_of(request), key_id)
    allow(acting.session, Role.ADMIN if row.role == "admin" else Role.EDITOR)
    return row


async def _form(request: Request, session: Session, form: Form, error: InvalidRequest | None = None) -> Response:
    faults, status = (faults_of(error), error.http_status) if error is not None else ({}, 200)
    choices = await _choices(gateway_of(request))
    return page(request, "key_new.html", session, status, form=form, faults=faults, **choices)


async def _one(
    request: Request, session: Session, row: KeyRow, form: Any, error: InvalidRequest | None = None
) -> Response:
    faults, status = (faults_of(error), error.http_status) if error is not None else ({}, 200)
    state, choices = standing(row), await _choices(gateway_of(request))
    return page(request, "key.html", session, status, row=row, state=state, form=form, faults=faults, **choices)


async def _choices(gateway: Gateway) -> dict[str, Any]:
    names = await names_of(gateway.stores)
    return {
        "names": names,
        "policies": sorted(gateway.policies.names()),
        "models": [card.id for card in gateway.fleet.catalogue.model],
    }


async def _found(gateway: Gateway, key_id: str) -> KeyRow:
    row = await gateway.stores.keys.get(key_id)
    if row is None:
        raise NotFound(f"There is no key '{key_id[:80]}'.")
    return row
