"""Policies: what is in force, an editor with its faults beside it, every version, what differs, and moving between."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway.api.admin.access import gateway_of
from gateway.errors import Conflict, GatewayError, InvalidRequest, NotFound, Stale
from gateway.lifecycle.dry_run.store import Asked
from gateway.lifecycle.policy_desk import Checked
from gateway.lifecycle.policy_versions import Pointer, State
from gateway.state import Gateway
from gateway.ui.answers import page, to
from gateway.ui.doors import Editing, Form, Looking, Visitor
from gateway.ui.policy_fields import KNOBS, edited, values_of
from gateway.ui.sessions import Session
from policies.schema import NAME_PATTERN

router = APIRouter(prefix="/policies")
BEGINNING: Final = (
    'schema = 1\nname = "{name}"\ndescription = ""\nmodels = ["*"]\n\n[objective]\nquality = 1.0\ncost = 0.2\n'
)


@router.get("")
async def list_policies(request: Request, session: Visitor) -> Response:
    """What is in force, by name."""
    gateway = gateway_of(request)
    pointers = await gateway.policy_versions.pointers()
    rows = [
        {
            "active": gateway.policy_desk.shown(name),
            "scopes": [one for one in pointers if one.name == name and one.scope],
            "differs": gateway.policies.differs.get(name),
        }
        for name in gateway.policies.names()
    ]
    return page(request, "policies.html", session, rows=rows, refused=gateway.policies.refused)


@router.get("/-/new")
async def begin(request: Request, session: Visitor, name: str = "") -> Response:
    """The editor with a beginning."""
    if not NAME_PATTERN.fullmatch(name):
        faults = {"name": "1 to 64 of a-z, 0-9, _ and -, beginning with a letter."} if name else {}
        return page(request, "policy_new.html", session, 422 if faults else 200, name=name[:80], faults=faults)
    return await _editor(request, session, name, BEGINNING.format(name=name), None, None)


@router.post("/-/check")
async def check(request: Request, acting: Looking) -> Response:
    """What is wrong with the text in the editor; asked for while somebody writes."""
    form = acting.form
    checked = await gateway_of(request).policy_desk.check(form.text("toml"), form.get("policy") or None)
    return page(request, "policy_check.html", acting.session, checked=checked)


@router.post("/-/fields")
async def fields(request: Request, acting: Looking) -> Response:
    """The text with what was set in fields, and how that checks."""
    form, text, fault = acting.form, acting.form.text("toml"), None
    try:
        text = edited(text, form)
    except InvalidRequest as error:
        fault = error.message
    checked = await gateway_of(request).policy_desk.check(text, form.get("policy") or None)
    return page(request, "policy_text.html", acting.session, toml=text, checked=checked, fault=fault)


@router.get("/{name}")
async def edit(name: str, request: Request, session: Visitor, version: str = "active") -> Response:
    """The editor, with what is in force or with a version."""
    gateway = gateway_of(request)
    found = await gateway.policy_desk.text(name, version)
    pointer = await gateway.policy_versions.pointer(name)
    return await _editor(
        request, session, name, found.body, found.version.id if found.version is not None else None, pointer, version
    )


@router.post("/{name}")
async def save(name: str, request: Request, acting: Editing) -> Response:
    """A new version: as a draft, as ready, or in force at once. What can't be stays in the editor, with the reason."""
    session, form, gateway = acting.session, acting.form, gateway_of(request)
    text, note, act = form.text("toml"), form.get("note", "")[:1000], form.get("act", "draft")
    parent = int(form["parent"]) if form.get("parent", "").isdecimal() else None
    revision = int(form["revision"]) if form.get("revision", "").isdecimal() else None
    try:
        if act == "activate":
            row, _, _ = await gateway.policy_desk.push(
                name, text, author=session.subject, note=note, if_revision=revision
            )
            return to(request, f"/policies/{name}", f"Version {row.id} is in force, on all workers within a second.")
        state: State = "ready" if act == "ready" else "draft"
        row, _ = await gateway.policy_desk.save(
            name, text, author=session.subject, note=note, state=state, parent_id=parent
        )
        return to(request, f"/policies/{name}?version={row.id}", f"Version {row.id} is saved as {state}.")
    except (InvalidRequest, Conflict, Stale, NotFound) as error:
        pointer = await gateway.policy_versions.pointer(name)
        return await _editor(request, session, name, text, parent, pointer, "", error, form)


@router.get("/{name}/history")
async def history(name: str, request: Request, session: Visitor) -> Response:
    """Every version, and what was in force when."""
    gateway = gateway_of(request)
    versions = await gateway.policy_versions.history(name)
    moves = await gateway.policy_versions.moves(name)
    pointer = await gateway.policy_versions.pointer(name)
    reports = await gateway.dry_runs.store.list(name, 10)
    if not versions and not moves and gateway.policies.current(name) is None:
        raise NotFound(f"There is no policy '{name[:80]}'.")
    shown: dict[str, Any] = {"versions": versions, "moves": moves, "pointer": pointer, "reports": reports}
    return page(request, "policy_history.html", session, name=name, tab="history", **shown)


@router.get("/{name}/diff")
async def differences(
    name: str, request: Request, session: Visitor, old: str = "file", new: str = "active"
) -> Response:
    """Key by key from one text to another."""
    gateway = gateway_of(request)
    versions = await gateway.policy_versions.history(name)
    choices = [("active", "in force"), ("file", "the file"), *((str(one.id), f"version {one.id}") for one in versions)]
    found, fault = None, None
    try:
        found = await gateway.policy_desk.differences(name, old, new)
    except GatewayError as error:
        fault = error.message
    shown: dict[str, Any] = {"found": found, "fault": fault, "choices": choices, "old": old, "new": new}
    return page(request, "policy_diff.html", session, name=name, tab="diff", **shown)


@router.post("/{name}/activate")
async def activate(name: str, request: Request, acting: Editing) -> Response:
    """Put a version in force; without one, what the file says."""
    form = acting.form
    version = int(form["version"]) if form.get("version", "").isdecimal() else None
    pointer = await gateway_of(request).policy_desk.activate(
        name, version, actor=acting.session.subject, if_revision=_revision(form)
    )
    return to(request, f"/policies/{name}/history", f"{_said(pointer)} is in force, on all workers within a second.")


@router.post("/{name}/rollback")
async def rollback(name: str, request: Request, acting: Editing) -> Response:
    """Put in force again what was before."""
    pointer = await gateway_of(request).policy_desk.rollback(
        name, actor=acting.session.subject, if_revision=_revision(acting.form)
    )
    return to(request, f"/policies/{name}/history", f"Taken back: {_said(pointer)} is in force again.")


def _revision(form: Form) -> int | None:
    return int(form["revision"]) if form.get("revision", "").isdecimal() else None


def _said(pointer: Pointer) -> str:
    return "What the file says" if pointer.version_id is None else f"Version {pointer.version_id}"


@router.post("/{name}/dry-run")
async def dry_run(name: str, request: Request, acting: Editing) -> Response:
    """Judge a version, or the text in the editor, by the policy's last requests."""
    form, gateway = acting.form, gateway_of(request)
    text, version = form.text("toml"), form.get("version", "")
    if version:
        text = (await gateway.policy_desk.text(name, version)).body
    checked = await gateway.policy_desk.check(text, name)
    if not checked.ready:
        raise InvalidRequest("\n".join(map(str, checked.problems)), param="toml")
    number = int(version) if version.isdecimal() else None
    report_id = await gateway.dry_runs.start(name, text, number, Asked(), actor=acting.session.subject)
    return to(request, f"/dry-runs/{report_id}")


async def _editor(
    request: Request,
    session: Session,
    name: str,
    text: str,
    parent: int | None,
    pointer: Pointer | None,
    version: str = "active",
    error: GatewayError | None = None,
    form: Form | None = None,
) -> Response:
    gateway: Gateway = gateway_of(request)
    checked: Checked = await gateway.policy_desk.check(text, name)
    shown: dict[str, Any] = {
        "name": name,
        "toml": text,
        "parent": parent,
        "pointer": pointer,
        "active": gateway.policies.current(name),
        "differs": gateway.policies.differs.get(name),
        "version": version,
        "checked": checked,
        "knobs": KNOBS,
        "values": values_of(text),
        "error": error.message if error is not None else "",
        "note": form.get("note", "") if form is not None else "",
        "tab": "edit",
    }
    return page(request, "policy.html", session, error.http_status if error is not None else 200, **shown)
