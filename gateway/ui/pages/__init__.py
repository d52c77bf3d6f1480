"""The pages: each module has a `router`; an entry here puts it behind HTTP, one in `gateway.ui.menu` into the menu."""

from __future__ import annotations

from types import ModuleType
from typing import Final

from gateway.ui.pages import (
    audit,
    budgets,
    dry_runs,
    keys,
    limits,
    models,
    organisations,
    overview,
    policy_pages,
    teams,
    trials,
)

_ROUTING: Final = (policy_pages, dry_runs, trials)
_ACCESS: Final = (keys, teams, organisations, budgets, limits)
PAGES: Final[tuple[ModuleType, ...]] = (overview, models, *_ROUTING, *_ACCESS, audit)
