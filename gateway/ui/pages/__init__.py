"""The pages: each module has a `router`; an entry here puts it behind HTTP, one in `gateway.ui.menu` into the menu."""

from __future__ import annotations

from types import ModuleType
from typing import Final

from gateway.ui.pages import audit, budgets, keys, limits, models, organisations, overview, teams

PAGES: Final[tuple[ModuleType, ...]] = (overview, models, keys, teams, organisations, budgets, limits, audit)
