"""Rate limits of organisations, teams, keys, models and tags."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request

from gateway.admission.rule_checks import check_limit, check_subject
from gateway.admission.rules import RateLimit, Scope
from gateway.api.admin.access import Admin, PathId, QueryId, TheGateway, TheStores, known_of
from gateway.api.admin.bodies import Body, described_body, given_fields, read_json, refusals
from gateway.api.admin.budgets import ScopeName
from gateway.api.admin.shown import shown_limit
from gateway.errors import NotFound
from gateway.state import Gateway

router = APIRouter(prefix="/admin/limits")


class LimitBody(Body):
    """What is null is unbounded."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None


class NewLimit(LimitBody):
    """`scope_id` is an id of organisation, team or key, a model's id, or a tag."""

    scope: ScopeName
    scope_id: str


@router.post("", status_code=201, openapi_extra=described_body(NewLimit))
async def create(request: Request, caller: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Set the rate limit of a subject, which has at most one."""
    return shown_limit(await set_limit(await read_json(request, gateway, NewLimit), gateway, caller.key_id))


async def set_limit(new: NewLimit, gateway: Gateway, actor: str) -> RateLimit:
    """The new rate limit."""
    limit = RateLimit(id="", **{**new.model_dump(), "scope": Scope(new.scope)})
    with refusals():
        check_limit(limit)
        check_subject(limit.scope, limit.scope_id, known_of(gateway))
        stored = await gateway.stores.rules.create(limit, actor=actor)
    await gateway.changes.poll()
    return stored


@router.get("")
async def list_limits(
    _: Admin, stores: TheStores, scope: ScopeName | None = None, scope_id: QueryId | None = None
) -> dict[str, Any]:
    """All rate limits, those of a scope, or that of one subject."""
    rows = await stores.rules.list(RateLimit, Scope(scope) if scope else None, scope_id)
    return {"data": [shown_limit(row) for row in rows]}


@router.get("/{limit_id}")
async def show(limit_id: PathId, _: Admin, stores: TheStores) -> dict[str, Any]:
    """One rate limit."""
    return shown_limit(_found(await stores.rules.get(RateLimit, limit_id), limit_id))


@router.patch("/{limit_id}", openapi_extra=described_body(LimitBody))
async def change(limit_id: PathId, request: Request, caller: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Change what is given; in force at once."""
    body = await read_json(request, gateway, LimitBody)
    return shown_limit(await change_limit(limit_id, body, gateway, caller.key_id))


async def change_limit(limit_id: str, body: LimitBody, gateway: Gateway, actor: str) -> RateLimit:
    """The rate limit as it is now; 404 where there is none."""
    given = given_fields(body)

    def edit(old: RateLimit) -> RateLimit:
        new = replace(old, **given)
        check_limit(new)
        return new

    with refusals():
        stored = await gateway.stores.rules.update(RateLimit, limit_id, edit, actor=actor)
    await gateway.changes.poll()
    return _found(stored, limit_id)


@router.delete("/{limit_id}")
async def remove(limit_id: PathId, caller: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Remove a rate limit."""
    await remove_limit(limit_id, gateway, caller.key_id)
    return {"id": limit_id, "deleted": True}


async def remove_limit(limit_id: str, gateway: Gateway, actor: str) -> None:
    """404 where there is none."""
    if not await gateway.stores.rules.delete(RateLimit, limit_id, actor=actor):
        raise NotFound(f"There is no rate limit '{limit_id[:80]}'.")
    await gateway.changes.poll()


def _found(limit: RateLimit | None, limit_id: str) -> RateLimit:
    if limit is None:
        raise NotFound(f"There is no rate limit '{limit_id[:80]}'.")
    return limit
