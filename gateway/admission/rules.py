"""What an admin sets for an organisation, a team, a key, a model or a tag: budgets and rate limits. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Scope(StrEnum):
    """Whose spending or calling a rule bounds."""

    ORGANISATION = "organisation"
    TEAM = "team"
    KEY = "key"
    MODEL = "model"
    TAG = "tag"


class WindowKind(StrEnum):
    """How a budget starts afresh: never, at a date, or little by little."""

    TOTAL = "total"
    CALENDAR = "calendar"
    ROLLING = "rolling"


class Period(StrEnum):
    """Calendar periods, in UTC; weeks begin on Monday."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Window:
    """`period` belongs to calendar windows, `seconds` to rolling ones."""

    kind: WindowKind = WindowKind.TOTAL
    period: Period | None = None
    seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `limit_nanousd` in each window. Hard ones refuse, soft ones warn (header, metric, webhook)."""

    id: str
    scope: Scope
    scope_id: str
    limit_nanousd: int
    window: Window = Window()
    hard: bool = True
    webhook_url: str | None = None


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Bounds on calling; None: unbounded."""

    id: str
    scope: Scope
    scope_id: str
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """All that bounds one subject."""

    budgets: tuple[Budget, ...] = ()
    limits: tuple[RateLimit, ...] = ()

    def __add__(self, other: Rules) -> Rules:
        if not (other.budgets or other.limits):
            return self
        if not (self.budgets or self.limits):
            return other
        return Rules(self.budgets + other.budgets, self.limits + other.limits)


NO_RULES = Rules()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `policy` None means the default one, `allowed_models` None whatever the policy allows; both are
    already narrowed by team and organisation. `rules` are those of key, team and organisation together. `root_id` is
    the first key of the line that this one was rotated from (None: itself): what belongs to a key follows its line."""

    key_id: str
    role: str
    policy: str | None
    allowed_models: tuple[str, ...] | None
    team_id: str | None = None
    organisation_id: str | None = None
    rules: Rules = NO_RULES
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    root_id: str | None = None
