"""The audit log: who did what, newest first, and whether the chain is whole."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from gateway.api.admin.access import gateway_of
from gateway.api.admin.audit import Id
from gateway.api.admin.shown import shown_entry
from gateway.ui.answers import page
from gateway.ui.doors import Looking, Visitor
from gateway.ui.names import Names, names_of
from gateway.ui.rendering import compact, usd

router = APIRouter(prefix="/audit")
PAGE: Final = 50
# Where an act's subject has a page, by the first word of the act.
_NAMES: Final = {
    "limit_nanousd": "limit",
    "scope_id": "for",
    "team_id": "team",
    "organisation_id": "organisation",
    "window_s": "window in s",
}
PAGES: Final = {
    "key": "/keys/",
    "team": "/teams/",
    "organisation": "/organisations/",
    "budget": "/budgets/",
    "limit": "/limits/",
}


@router.get("")
async def show(request: Request, session: Visitor, before: Annotated[Id | None, Query()] = None) -> Response:
    """One page of it."""
    stores = gateway_of(request).stores
    entries = await stores.audit.list(PAGE + 1, before)
    names = await names_of(stores)
    rows = [_row(shown_entry(entry), names) for entry in entries[:PAGE]]
    older = rows[-1]["id"] if len(entries) > PAGE else None
    return page(request, "audit.html", session, rows=rows, older=older, before=before, verdict=None)


@router.post("/verify")
async def verify(request: Request, acting: Looking) -> Response:
    """Walk the whole chain; with a hash that was noted earlier, whether it is still in it."""
    stores, noted = gateway_of(request).stores, acting.form.get("noted_sha256", "").lower()
    verdict = await stores.audit.verify(noted or None)
    names = await names_of(stores)
    rows = [_row(shown_entry(entry), names) for entry in await stores.audit.list(PAGE)]
    shown: dict[str, Any] = {"verdict": verdict, "noted": noted}
    return page(request, "audit.html", acting.session, rows=rows, older=None, before=None, **shown)


def _row(entry: dict[str, Any], names: Names) -> dict[str, Any]:
    kind = entry["action"].split(".")[0]
    path = PAGES.get(kind, "")
    detail = {name: value for name, value in entry["detail"].items() if name != "id"}
    return {
        **entry,
        "who": names.keys.get(entry["actor"], entry["actor"]),
        "whom": names.of("key" if kind == "console" else kind, entry["subject"]),
        "link": f"{path}{entry['subject']}" if path and not entry["action"].endswith(".delete") else "",
        "detail": {
            _NAMES.get(name, name): told for name, value in detail.items() if (told := _told(name, value, names))
        },
    }


def _told(name: str, value: Any, names: Names) -> str:
    """One figure of an act in words; '' for what says nothing."""
    if value is None or value in ([], {}, ""):
        return ""
    if name.endswith("_nanousd"):
        return usd(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return next((known[value] for known in (names.organisations, names.teams, names.keys) if value in known), value)
    return ", ".join(map(str, value)) if isinstance(value, list) else compact(value)
