"""Whom a budget or a limit is for: one choice of a form that names scope and id together, as `team:ID`."""

from __future__ import annotations

from gateway.admission.rules import Scope
from gateway.errors import InvalidRequest
from gateway.state import Gateway
from gateway.ui.doors import Form

SUBJECT = "subject"


async def subjects_of(gateway: Gateway) -> list[tuple[str, list[tuple[str, str]]]]:
    """Groups of (value, text) for a form: whatever lives. A tag is typed in."""
    stores = gateway.stores
    organisations = [row for row in await stores.tenants.list(Scope.ORGANISATION) if row.revoked_at is None]
    teams = [row for row in await stores.tenants.list(Scope.TEAM) if row.revoked_at is None]
    keys = [row for row in await stores.keys.list() if row.revoked_at is None and row.rotated_to is None]
    found: list[tuple[str, list[tuple[str, str]]]] = [
        ("Organisations", [(f"organisation:{row.id}", row.name) for row in organisations]),
        ("Teams", [(f"team:{row.id}", row.name) for row in teams]),
        ("Keys", [(f"key:{row.id}", row.name) for row in keys if row.role == "application"]),
        ("Models", [(f"model:{card.id}", card.id) for card in gateway.fleet.catalogue.model]),
        ("Tags", [("tag:", "a tag, named beside")]),
    ]
    return [group for group in found if group[1]]


def subject_from(form: Form) -> dict[str, str]:
    """Scope and id."""
    scope, colon, scope_id = form.get(SUBJECT, "").partition(":")
    if not colon or scope not in list(Scope):
        raise InvalidRequest("Choose whom it is for.", param=SUBJECT)
    return {"scope": scope, "scope_id": form.get("tag", "") if scope == Scope.TAG else scope_id}


def at_subject(faults: dict[str, str], form: Form) -> dict[str, str]:
    """What is wrong with the id is said where it was chosen, or typed."""
    place = "tag" if form.get(SUBJECT) == "tag:" else SUBJECT
    return {place if name == "scope_id" else name: text for name, text in faults.items()}
