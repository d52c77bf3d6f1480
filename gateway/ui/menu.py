"""What there is to go to: one entry for each page, in the order of the navigation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.ui.rendering import BASE


@dataclass(frozen=True, slots=True)
class Entry:
    """`path` lies below the console's own; `icon` is a name in `templates/icons.html`."""

    title: str
    path: str
    icon: str

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{BASE}{self.path}"

    def is_at(self, path: str) -> bool:
        """Whether a path is this page or one below it."""
        return path == self.url or (bool(self.path) and path.startswith(f"{self.url}/"))


@dataclass(frozen=True, slots=True)
class Section:
    """Entries that belong together."""

    title: str
    entries: tuple[Entry, ...]


MENU: Final = (
    Section("Traffic", (Entry("Overview", "", "gauge"), Entry("Models", "/models", "cpu"))),
    Section("Routing", (Entry("Policies", "/policies", "route"), Entry("Trials", "/trials", "sliders"))),
    Section(
        "Access",
        (
            Entry("Keys", "/keys", "key"),
            Entry("Teams", "/teams", "users"),
            Entry("Organisations", "/organisations", "building"),
        ),
    ),
    Section("Spending", (Entry("Budgets", "/budgets", "wallet"), Entry("Rate limits", "/limits", "timer"))),
    Section("Record", (Entry("Audit log", "/audit", "scroll"),)),
)
