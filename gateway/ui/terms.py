"""The fields that keys, teams and organisations share, from a form and for one. See `terms.html`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.admission.terms import RESERVED, TAGS, Terms
from gateway.errors import InvalidRequest
from gateway.ui.doors import Form
from gateway.ui.forms import lines_of, moment_of
from gateway.ui.roles import KEY_ROLE, Role


def terms_from(form: Form, old: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What `TermsBody` takes; of the metadata the form knows the tags alone, the rest stays as it was."""
    tags = list(lines_of(form.get("tags", "")))
    kept = {name: value for name, value in (old or {}).items() if name not in RESERVED | {TAGS, KEY_ROLE}}
    if role := form.get(KEY_ROLE) if KEY_ROLE in form else (old or {}).get(KEY_ROLE):
        kept[KEY_ROLE] = _role(role)
    return {
        "name": form.get("name", ""),
        "policy": form.get("policy") or None,
        "allowed_models": lines_of(form.get("allowed_models", "")) or None,
        "expires_at": moment_of(form.get("expires_at", ""), "expires_at"),
        "metadata": {**kept, **({TAGS: tags} if tags else {})},
    }


def _role(said: str) -> str:
    if said not in list(Role):
        raise InvalidRequest(f"Choose one of {', '.join(Role)}.", param=KEY_ROLE)
    return said


def terms_shown(row: Terms) -> dict[str, str]:
    """The same as texts."""
    return {
        "name": row.name,
        "policy": row.policy or "",
        "allowed_models": "\n".join(row.allowed_models or ()),
        "expires_at": row.expires_at.strftime("%Y-%m-%dT%H:%M") if row.expires_at else "",
        "tags": ", ".join(row.metadata.get(TAGS, ())),
        KEY_ROLE: str(row.metadata.get(KEY_ROLE, "")),
    }
