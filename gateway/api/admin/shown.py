"""Rows as admins see them, in the API and on the command line: never a hash, never a secret."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.admission.gauges import Level
from gateway.admission.grants import KeyRow, TenantRow
from gateway.admission.rule_checks import to_usd
from gateway.admission.rules import Budget, RateLimit
from gateway.admission.terms import RESERVED, Terms
from gateway.ledger.audit import Entry


def shown_key(row: KeyRow) -> dict[str, Any]:
    """A key without its hash."""
    return {
        "id": row.id,
        "role": row.role,
        "team_id": row.team_id,
        **_terms(row),
        "created_at": row.created_at,
        "revoked_at": row.revoked_at,
        "rotated_from": row.root_id,
        "rotated_to": row.rotated_to,
    }


def shown_tenant(row: TenantRow) -> dict[str, Any]:
    """An organisation, or a team with the organisation it belongs to."""
    above = {} if row.organisation_id is None else {"organisation_id": row.organisation_id}
    return {"id": row.id, **above, **_terms(row), "created_at": row.created_at, "revoked_at": row.revoked_at}


def shown_budget(budget: Budget) -> dict[str, Any]:
    """A budget in dollars, and in the nano-dollars it is kept in."""
    return {
        "id": budget.id,
        "scope": budget.scope,
        "scope_id": budget.scope_id,
        "limit_usd": to_usd(budget.limit_nanousd),
        "limit_nanousd": budget.limit_nanousd,
        "window": budget.window.kind,
        "period": budget.window.period,
        "window_s": budget.window.seconds,
        "hard": budget.hard,
        "webhook_url": budget.webhook_url,
    }


def shown_level(level: Level) -> dict[str, Any]:
    """Where a budget stands now; `free` is what hard ones still let through."""
    limit = level.budget.limit_nanousd
    free = max(limit - level.spent_nanousd - level.reserved_nanousd, 0)
    amounts = {"limit": limit, "spent": level.spent_nanousd, "reserved": level.reserved_nanousd, "free": free}
    return {
        "id": level.budget.id,
        **{f"{name}_usd": to_usd(nanousd) for name, nanousd in amounts.items()},
        **{f"{name}_nanousd": nanousd for name, nanousd in amounts.items()},
        "resets_at": level.resets_at,
    }


def shown_limit(limit: RateLimit) -> dict[str, Any]:
    """A rate limit."""
    return {
        "id": limit.id,
        "scope": limit.scope,
        "scope_id": limit.scope_id,
        "requests_per_minute": limit.requests_per_minute,
        "tokens_per_minute": limit.tokens_per_minute,
        "concurrent_requests": limit.concurrent_requests,
    }


def shown_entry(entry: Entry) -> dict[str, Any]:
    """A line of the audit log."""
    return {
        "id": entry.id,
        "at": entry.at,
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "detail": msgspec.json.decode(entry.detail),
        "sha256": entry.sha256,
    }


def _terms(row: Terms) -> dict[str, Any]:
    return {
        "name": row.name,
        "policy": row.policy,
        "allowed_models": list(row.allowed_models) if row.allowed_models is not None else None,
        "expires_at": row.expires_at,
        "metadata": {name: value for name, value in row.metadata.items() if name not in RESERVED},
    }
