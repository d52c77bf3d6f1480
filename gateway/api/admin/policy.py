"""Policies: what is in force, every version of each, and moving between them."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import Field

from gateway.api.admin.access import Admin, TheGateway
from gateway.api.admin.bodies import Body, described_body, read_json
from gateway.api.raw import read_body
from gateway.errors import InvalidRequest
from gateway.lifecycle.policy_desk import Checked
from gateway.lifecycle.policy_versions import Pointer, VersionRow
from gateway.state import Gateway
from policies.errors import PolicyError
from policies.load import parse_policy

router = APIRouter(prefix="/admin/policies")
MAX_BYTES: Final = 1024 * 1024
_REVISION: Final = re.compile(r'"(\d{1,15})"')
_NO_NUL: Final = r"^[^\x00]*$"

Name = Annotated[str, Path(max_length=100, pattern=_NO_NUL)]
Note = Annotated[str, Query(max_length=1000, pattern=_NO_NUL)]
InScope = Annotated[str, Query(max_length=300, pattern=_NO_NUL)]
Which = Annotated[str, Query(max_length=20, pattern=_NO_NUL)]
VersionId = Annotated[int, Path(ge=1, le=2**31 - 1)]
IfMatch = Annotated[str | None, Header(description='The ETag that this was read with, as "3"; 412 where it is stale.')]
TOML: Final = {"content": {"application/toml": {"schema": {"type": "string"}}}, "required": True}


class ActivateBody(Body):
    """`version` null puts in force what files say; `scope` "" is everybody, else organisation:ID, team:ID or key:ID."""

    version: int | None = Field(ge=1, le=2**31 - 1)
    scope: str = Field(default="", max_length=300, pattern=_NO_NUL)
    note: str = Field(default="", max_length=1000, pattern=_NO_NUL)


class RollbackBody(Body):
    """What was in force in that scope before what is now."""

    scope: str = Field(default="", max_length=300, pattern=_NO_NUL)
    note: str = Field(default="", max_length=1000, pattern=_NO_NUL)


@router.get("")
async def list_policies(_: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Names, hashes and sources of what is in force; where files and database disagree; what could not be loaded."""
    pointers = {(one.name, one.scope): one for one in await gateway.policy_versions.pointers()}
    rows = []
    for name in gateway.policies.names():
        one, pointer = gateway.policy_desk.shown(name), pointers.get((name, ""))
        scopes = sorted(scope for named, scope in pointers if named == name and scope)
        rows.append(
            {
                "name": name,
                "sha256": one.sha256,
                "source": one.source,
                "description": one.policy.description,
                **_standing(pointer),
                "scopes": [asdict(pointers[name, scope]) for scope in scopes],
                "differs": gateway.policies.differs.get(name),
            }
        )
    return {"data": rows, "refused": gateway.policies.refused}


@router.put("", openapi_extra={"requestBody": TOML})
async def push(
    request: Request, response: Response, caller: Admin, gateway: TheGateway, note: Note = "", if_match: IfMatch = None
) -> dict[str, Any]:
    """Store a TOML policy as a version of its name and put it in force: here at once, elsewhere within a second."""
    revision = revision_of(if_match)
    text = await _text(request, gateway)
    try:
        name = parse_policy(text, "body").name
    except PolicyError as error:
        raise InvalidRequest(str(error)) from error
    row, checked, pointer = await gateway.policy_desk.push(
        name, text, author=caller.key_id, note=note, if_revision=revision
    )
    response.headers["etag"] = _etag(pointer)
    sha256 = checked.policy.sha256() if checked.policy is not None else None
    told = {"name": name, "version": row.id, "sha256": sha256, "revision": pointer.revision}
    return {**told, "warnings": checked.warnings}


@router.post("/check", openapi_extra={"requestBody": TOML})
async def check(request: Request, _: Admin, gateway: TheGateway) -> dict[str, Any]:
    """What is wrong with a TOML policy, and what in it can't take effect; stores nothing."""
    return _told(await gateway.policy_desk.check(await _text(request, gateway)))


@router.get("/{name}")
async def show(name: Name, response: Response, _: Admin, gateway: TheGateway, scope: InScope = "") -> dict[str, Any]:
    """One policy in full: what is in force, and the text that it was read from. Its ETag is for If-Match."""
    active = gateway.policy_desk.shown(name, scope)
    pointer = await gateway.policy_versions.pointer(name, scope)
    text = await gateway.policy_desk.text(name, scope=scope)
    response.headers["etag"] = _etag(pointer)
    return {
        "name": name,
        "sha256": active.sha256,
        "source": active.source,
        **_standing(pointer),
        "differs": gateway.policies.differs.get(name),
        "policy": active.policy.model_dump(mode="json", by_alias=True),
        "toml": text.body,
    }


@router.get("/{name}/versions")
async def versions(name: Name, _: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Every version, newest first, without its text."""
    return {"data": [_shown(row) for row in await gateway.policy_versions.history(name)]}


@router.post("/{name}/versions", status_code=201, openapi_extra={"requestBody": TOML})
async def save(
    name: Name,
    request: Request,
    caller: Admin,
    gateway: TheGateway,
    state: Literal["draft", "ready"] = "draft",
    note: Note = "",
    parent: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> dict[str, Any]:
    """Save a TOML text as a version that is not in force. A draft may have faults, which are told; `ready` may not."""
    text = await _text(request, gateway)
    row, checked = await gateway.policy_desk.save(
        name, text, author=caller.key_id, note=note, state=state, parent_id=parent
    )
    return {**_shown(row), **_told(checked)}


@router.get("/{name}/versions/{version_id}")
async def version(name: Name, version_id: VersionId, _: Admin, gateway: TheGateway) -> dict[str, Any]:
    """One version with its text, and what is wrong with it by today's catalogue."""
    text = await gateway.policy_desk.text(name, str(version_id))
    shown = _shown(text.version) if text.version is not None else {}
    return {**shown, "toml": text.body, **_told(await gateway.policy_desk.check(text.body, name))}


@router.get("/{name}/moves")
async def moves(name: Name, _: Admin, gateway: TheGateway, scope: InScope = "") -> dict[str, Any]:
    """What was in force when, and who said so; newest first."""
    return {"data": [asdict(one) for one in await gateway.policy_versions.moves(name, scope)]}


@router.get("/{name}/diff")
async def differences(name: Name, _: Admin, gateway: TheGateway, old: Which = "file", new: Which = "active") -> Any:
    """Key by key from one text to another: `file`, `active`, or a version's number."""
    return await gateway.policy_desk.differences(name, old, new)


@router.post("/{name}/activate", openapi_extra=described_body(ActivateBody))
async def activate(
    name: Name, request: Request, response: Response, caller: Admin, gateway: TheGateway, if_match: IfMatch = None
) -> dict[str, Any]:
    """Put a version in force: here at once, elsewhere within a second. Requests in flight keep what they began with."""
    revision = revision_of(if_match)
    asked = await read_json(request, gateway, ActivateBody)
    pointer = await gateway.policy_desk.activate(
        name, asked.version, actor=caller.key_id, scope=asked.scope, note=asked.note, if_revision=revision
    )
    response.headers["etag"] = _etag(pointer)
    return asdict(pointer)


@router.post("/{name}/rollback", openapi_extra=described_body(RollbackBody))
async def rollback(
    name: Name, request: Request, response: Response, caller: Admin, gateway: TheGateway, if_match: IfMatch = None
) -> dict[str, Any]:
    """Put in force again what was before; further back each time."""
    revision = revision_of(if_match)
    asked = await read_json(request, gateway, RollbackBody)
    pointer = await gateway.policy_desk.rollback(
        name, actor=caller.key_id, scope=asked.scope, note=asked.note, if_revision=revision
    )
    response.headers["etag"] = _etag(pointer)
    return asdict(pointer)


async def _text(request: Request, gateway: Gateway) -> str:
    body = await read_body(request.scope, request.receive, MAX_BYTES, gateway.settings.body_timeout_s)
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8 text at byte {error.start}.", param="body") from error


def revision_of(if_match: str | None) -> int | None:
    if if_match is None:
        return None
    found = _REVISION.fullmatch(if_match.strip())
    if found is None:
        raise InvalidRequest("'If-Match' must be one ETag as these routes give it, as \"3\".", param="if-match")
    return int(found[1])


def _etag(pointer: Pointer | None) -> str:
    return f'"{pointer.revision if pointer is not None else 0}"'


def _standing(pointer: Pointer | None) -> dict[str, Any]:
    if pointer is None:
        return {"version": None, "revision": 0}
    return {"version": pointer.version_id, "revision": pointer.revision}


def _shown(row: VersionRow) -> dict[str, Any]:
    return {key: value for key, value in asdict(row).items() if key != "body"}


def _told(checked: Checked) -> dict[str, Any]:
    return {
        "ready": checked.ready,
        "problems": [asdict(one) for one in checked.problems],
        "warnings": checked.warnings,
    }
