"""Rate limits of organisations, teams, keys, models and tags."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request

from gateway.admission.rule_checks import check_limit, check_subject
from gateway.admission.rules import RateLimit, Scope
from gateway.api.admin.access import Admin, PathId, QueryId, TheFeed, TheGateway, TheStores, known_of
from gateway.api.admin.bodies import Body, described_body, given_fields, read_json, refusals
from gateway.api.admin.budgets import ScopeName
from gateway.api.admin.shown import shown_limit
from gateway.errors import NotFound

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
async def create(
    request: Request, caller: Admin, gateway: TheGateway, stores: TheStores, feed: TheFeed
) -> dict[str, Any]:
    """Set the rate limit of a subject, which has at most one."""
    new = await read_json(request, gateway, NewLimit)
    limit = RateLimit(id="", **{**new.model_dump(), "scope": Scope(new.scope)})
    with refusals():
        check_limit(limit)
        check_subject(limit.scope, limit.scope_id, known_of(gateway))
        stored = await stores.rules.create(limit, actor=caller.key_id)
    await feed.poll()
    return shown_limit(stored)


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
async def change(
    limit_id: PathId, request: Request, caller: Admin, gateway: TheGateway, stores: TheStores, feed: TheFeed
) -> dict[str, Any]:
    """Change what is given; in force at once."""
    given = given_fields(await read_json(request, gateway, LimitBody))

    def edit(old: RateLimit) -> RateLimit:
        new = replace(old, **given)
        check_limit(new)
        return new

    with refusals():
        stored = await stores.rules.update(RateLimit, limit_id, edit, actor=caller.key_id)
    await feed.poll()
    return shown_limit(_found(stored, limit_id))


@router.delete("/{limit_id}")
async def remove(limit_id: PathId, caller: Admin, stores: TheStores, feed: TheFeed) -> dict[str, Any]:
    """Remove a rate limit."""
    if not await stores.rules.delete(RateLimit, limit_id, actor=caller.key_id):
        raise NotFound(f"There is no rate limit '{limit_id[:80]}'.")
    await feed.poll()
    return {"id": limit_id, "deleted": True}


def _found(limit: RateLimit | None, limit_id: str) -> RateLimit:
    if limit is None:
        raise NotFound(f"There is no rate limit '{limit_id[:80]}'.")
    return limit
