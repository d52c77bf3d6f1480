"""Rate limits: how often, how much and how much at once organisations, teams, keys, models and tags may ask."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway.admission.rules import RateLimit
from gateway.api.admin.access import PathId, gateway_of
from gateway.api.admin.limits import LimitBody, NewLimit, change_limit, remove_limit, set_limit
from gateway.errors import InvalidRequest, NotFound
from gateway.ui.answers import page, to
from gateway.ui.doors import Editing, Form, Visitor
from gateway.ui.forms import body_of, faults_of
from gateway.ui.names import names_of
from gateway.ui.sessions import Session
from gateway.ui.subjects import at_subject, subject_from, subjects_of

router = APIRouter(prefix="/limits")
BOUNDS: Final = ("requests_per_minute", "tokens_per_minute", "concurrent_requests")


@router.get("")
async def list_limits(request: Request, session: Visitor) -> Response:
    """All rate limits."""
    stores = gateway_of(request).stores
    rows = await stores.rules.list(RateLimit)
    return page(request, "limits.html", session, rows=rows, names=await names_of(stores))


@router.get("/new")
async def ask(request: Request, session: Visitor) -> Response:
    """The form of a new limit."""
    return await _form(request, session, Form({}))


@router.post("")
async def create(request: Request, acting: Editing) -> Response:
    """A new limit."""
    session, form = acting
    try:
        new = body_of(NewLimit, {**subject_from(form), **_bounds(form)})
        await set_limit(new, gateway_of(request), session.subject)
    except InvalidRequest as error:
        return await _form(request, session, form, error)
    return to(request, "/limits", "The rate limit is set, on all workers.")


@router.get("/{limit_id}")
async def show(limit_id: PathId, request: Request, session: Visitor) -> Response:
    """One limit, with a form to change it."""
    return await _one(request, session, limit_id)


@router.post("/{limit_id}")
async def change(limit_id: PathId, request: Request, acting: Editing) -> Response:
    """Other bounds."""
    session, form = acting
    try:
        await change_limit(limit_id, body_of(LimitBody, _bounds(form)), gateway_of(request), session.subject)
    except InvalidRequest as error:
        return await _one(request, session, limit_id, form, error)
    return to(request, "/limits", "The rate limit is changed, on all workers.")


@router.post("/{limit_id}/delete")
async def remove(limit_id: PathId, request: Request, acting: Editing) -> Response:
    """No limit any more."""
    await remove_limit(limit_id, gateway_of(request), acting.session.subject)
    return to(request, "/limits", "The rate limit is gone.")


def _bounds(form: Form) -> dict[str, Any]:
    return {name: form.get(name, "").replace(",", "") or None for name in BOUNDS}


async def _form(request: Request, session: Session, form: Form, error: InvalidRequest | None = None) -> Response:
    faults = at_subject(faults_of(error), form) if error is not None else {}
    shown = {"form": form, "faults": faults, "subjects": await subjects_of(gateway_of(request))}
    return page(request, "limit_new.html", session, error.http_status if error else 200, **shown)


async def _one(
    request: Request, session: Session, limit_id: str, form: Form | None = None, error: InvalidRequest | None = None
) -> Response:
    stores = gateway_of(request).stores
    limit = await stores.rules.get(RateLimit, limit_id)
    if limit is None:
        raise NotFound(f"There is no rate limit '{limit_id[:80]}'.")
    shown: dict[str, Any] = {
        "limit": limit,
        "names": await names_of(stores),
        "form": form or {name: getattr(limit, name) or "" for name in BOUNDS},
        "faults": faults_of(error) if error is not None else {},
    }
    return page(request, "limit.html", session, error.http_status if error else 200, **shown)
