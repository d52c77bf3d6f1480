"""Issue, list, change, rotate and revoke virtual keys. A key's secret is shown once, in the answer to its creation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from gateway.admission.grants import KeyRow
from gateway.admission.terms import Terms, check_terms
from gateway.api.admin.access import Admin, PathId, QueryId, TheGateway, TheStores, known_of
from gateway.api.admin.bodies import Body, NewTermsBody, TermsBody, described_body, given_fields, read_json, refusals
from gateway.api.admin.shown import shown_key
from gateway.errors import NotFound
from gateway.state import Gateway

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
async def issue(request: Request, caller: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Create a key."""
    row, token = await issue_key(await read_json(request, gateway, NewKey), gateway, caller.key_id)
    return {**shown_key(row), "key": token}


async def issue_key(new: NewKey, gateway: Gateway, actor: str) -> tuple[KeyRow, str]:
    """The new key and its secret, whoever asks for it."""
    terms = new.model_dump(exclude={"role", "team_id"})
    with refusals():
        check_terms(Terms(**terms), known_of(gateway))
        made = await gateway.stores.keys.issue(**terms, role=new.role, team_id=new.team_id, actor=actor)
    await gateway.changes.poll()
    return made


@router.get("")
async def list_keys(_: Admin, stores: TheStores, team_id: QueryId | None = None) -> dict[str, Any]:
    """All keys (of a team), without secrets."""
    return {"data": [shown_key(row) for row in await stores.keys.list(team_id)]}


@router.get("/{key_id}")
async def show(key_id: PathId, _: Admin, stores: TheStores) -> dict[str, Any]:
    """One key, without its secret."""
    return shown_key(_found(await stores.keys.get(key_id), key_id))


@router.patch("/{key_id}", openapi_extra=described_body(KeyBody))
async def change(key_id: PathId, request: Request, caller: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Change what is given; in force on all workers at once."""
    body = await read_json(request, gateway, KeyBody)
    return shown_key(await change_key(key_id, body, gateway, caller.key_id))


async def change_key(key_id: str, body: KeyBody, gateway: Gateway, actor: str) -> KeyRow:
    """The key as it is now; 404 where there is none."""
    given = given_fields(body)

    def edit(old: KeyRow) -> KeyRow:
        new = replace(old, **given)
        check_terms(new, known_of(gateway), old)
        return new

    with refusals():
        row = _found(await gateway.stores.keys.update(key_id, edit, actor=actor), key_id)
    await gateway.changes.poll()
    return row


@router.post("/{key_id}/rotate", status_code=201, openapi_extra=described_body(Rotation))
async def rotate(key_id: PathId, request: Request, caller: Admin, gateway: TheGateway) -> dict[str, Any]:
    """A new key in place of this one, which ends after the overlap; budgets and what is spent of them go on."""
    row, token = await rotate_key(key_id, await read_json(request, gateway, Rotation), gateway, caller.key_id)
    return {**shown_key(row), "key": token}


async def rotate_key(key_id: str, rotation: Rotation, gateway: Gateway, actor: str) -> tuple[KeyRow, str]:
    """The new key and its secret."""
    with refusals():
        made = await gateway.stores.keys.rotate(key_id, rotation.overlap_s, actor=actor)
    if made is None:
        raise NotFound(f"There is no key '{key_id[:80]}'.")
    await gateway.changes.poll()
    return made


@router.delete("/{key_id}")
async def revoke(key_id: PathId, caller: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Revoke a key, on all workers at once."""
    await revoke_key(key_id, gateway, caller.key_id)
    return {"id": key_id, "revoked": True}


async def revoke_key(key_id: str, gateway: Gateway, actor: str) -> None:
    """404 where there is no such valid key."""
    if not await gateway.stores.keys.revoke(key_id, actor=actor):
        raise NotFound(f"There is no key '{key_id[:80]}', or it is revoked already.")
    await gateway.changes.poll()


def _found(row: KeyRow | None, key_id: str) -> KeyRow:
    if row is None:
        raise NotFound(f"There is no key '{key_id[:80]}'.")
    return row
