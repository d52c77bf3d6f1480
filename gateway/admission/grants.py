"""What a key opens once those above it are asked: its terms narrowed by its team and its organisation. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Literal

from gateway.admission.rules import Caller, Rules
from gateway.admission.terms import Terms, tags_of

Role = Literal["application", "admin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantRow(Terms):
    """A team (`organisation_id` says whose), or an organisation (None)."""

    id: str
    organisation_id: str | None
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow(Terms):
    """A key without its secret. `root_id` is the first key of the line that it was rotated from, None for that one."""

    id: str
    sha256: str
    role: Role
    created_at: datetime
    revoked_at: datetime | None = None
    team_id: str | None = None
    root_id: str | None = None
    rotated_to: str | None = None

    def is_valid(self, now_s: float) -> bool:
        """Whether the key itself is neither revoked nor expired at `now_s` (Unix seconds)."""
        return _valid_until(self) > now_s


@dataclass(frozen=True, slots=True)
class Grant:
    """The caller behind a key; `valid_until` is Unix seconds, minus infinity where the key or one above is revoked."""

    sha256: str
    caller: Caller
    valid_until: float

    def is_valid(self, now_s: float) -> bool:
        """Whether it opens anything at `now_s` (Unix seconds)."""
        return self.valid_until > now_s


def grant_of(key: KeyRow, team: TenantRow | None, organisation: TenantRow | None, rules: Rules) -> Grant:
    """The nearest policy counts; a model must be allowed by all; the first to expire or be revoked ends it."""
    line: list[KeyRow | TenantRow] = [one for one in (key, team, organisation) if one is not None]
    caller = Caller(
        key_id=key.id,
        role=key.role,
        policy=next((one.policy for one in line if one.policy is not None), None),
        allowed_models=_allowed_by_all(one.allowed_models for one in line),
        team_id=team.id if team else None,
        organisation_id=organisation.id if organisation else None,
        rules=rules,
        tags=tags_of(key.metadata),
        metadata=key.metadata,
        root_id=key.root_id,
    )
    return Grant(key.sha256, caller, min(map(_valid_until, line)))


def _allowed_by_all(lists: Iterable[Sequence[str] | None]) -> tuple[str, ...] | None:
    """In the order of the first list; None where nobody names any."""
    allowed: tuple[str, ...] | None = None
    for models in lists:
        if models is not None:
            allowed = tuple(models if allowed is None else (one for one in allowed if one in models))
    return allowed


def _valid_until(row: KeyRow | TenantRow) -> float:
    if row.revoked_at is not None:
        return -inf
    return row.expires_at.timestamp() if row.expires_at is not None else inf
