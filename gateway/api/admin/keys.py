"""Issue, list, change, rotate and revoke virtual keys. A key's secret is shown once, in the answer to its creation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from gateway.admission.grants import KeyRow
from gateway.admission.terms import Terms, check_terms
from gateway.api.admin.access import Admin, PathId, QueryId, TheFeed, TheGateway, TheStores, known_of
from gateway.api.admin.bodies import Body, NewTermsBody, TermsBody, described_body, given_fields, read_json, refusals
from gateway.api.admin.shown import shown_key
from gateway.errors import NotFound

router = APIRouter(prefix="/admin/keys")


class KeyBody(TermsBody):
    """`team_id` says whose key it is; `metadata.tags` are tags that all its requests are counted under."""

    team_id: str | None = None


class NewKey(NewTermsBody):
    """What a new key may do; the fields are those of `KeyBody`."""

    team_id: str | None = None
    role: Literal["application", "admin"] = "application"


class Rotation(Body):
    """How long the old key stays valid beside the new one."""

    overlap_s: float = Field(default=3600.0, ge=0, allow_inf_nan=False)


@router.post("", status_code=201, openapi_extra=described_body(NewKey))
async def issue(
    request: Request, caller: Admin, gateway: TheGateway, stores: TheStores, feed: TheFeed
) -> dict[str, Any]:
    """Create a key."""
    new = await read_json(request, gateway, NewKey)
    terms = new.model_dump(exclude={"role", "team_id"})
    with refusals():
        check_terms(Terms(**terms), known_of(gateway))
        row, token = await stores.keys.issue(**terms, role=new.role, team_id=new.team_id, actor=caller.key_id)
    await feed.poll()
    return {**shown_key(row), "key": token}


@router.get("")
async def list_keys(_: Admin, stores: TheStores, team_id: QueryId | None = None) -> dict[str, Any]:
    """All keys (of a team), without secrets."""
    return {"data": [shown_key(row) for row in await stores.keys.list(team_id)]}


@router.get("/{key_id}")
async def show(key_id: PathId, _: Admin, stores: TheStores) -> dict[str, Any]:
    """One key, without its secret."""
    return shown_key(_found(await stores.keys.get(key_id), key_id))


@router.patch("/{key_id}", openapi_extra=described_body(KeyBody))
async def change(
    key_id: PathId, request: Request, caller: Admin, gateway: TheGateway, stores: TheStores, feed: TheFeed
) -> dict[str, Any]:
    """Change what is given; in force on all workers at once."""
    given = given_fields(await read_json(request, gateway, KeyBody))

    def edit(old: KeyRow) -> KeyRow:
        new = replace(old, **given)
        check_terms(new, known_of(gateway), old)
        return new

    with refusals():
        row = _found(await stores.keys.update(key_id, edit, actor=caller.key_id), key_id)
    await feed.poll()
    return shown_key(row)


@router.post("/{key_id}/rotate", status_code=201, openapi_extra=described_body(Rotation))
async def rotate(
    key_id: PathId, request: Request, caller: Admin, gateway: TheGateway, stores: TheStores, feed: TheFeed
) -> dict[str, Any]:
    """A new key in place of this one, which ends after the overlap; budgets and what is spent of them go on."""
    rotation = await read_json(request, gateway, Rotation)
    with refusals():
        made = await stores.keys.rotate(key_id, rotation.overlap_s, actor=caller.key_id)
    if made is None:
        raise NotFound(f"There is no key '{key_id[:80]}'.")
    await feed.poll()
    return {**shown_key(made[0]), "key": made[1]}


@router.delete("/{key_id}")
async def revoke(key_id: PathId, caller: Admin, stores: TheStores, feed: TheFeed) -> dict[str, Any]:
    """Revoke a key, on all workers at once."""
    if not await stores.keys.revoke(key_id, actor=caller.key_id):
        raise NotFound(f"There is no key '{key_id[:80]}', or it is revoked already.")
    await feed.poll()
    return {"id": key_id, "revoked": True}


def _found(row: KeyRow | None, key_id: str) -> KeyRow:
    if row is None:
        raise NotFound(f"There is no key '{key_id[:80]}'.")
    return row
