"""Names for ids: whom a budget, a limit or a line of the audit log speaks of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.admission.rules import Scope
from gateway.admission.stores import Stores


@dataclass(frozen=True, slots=True)
class Names:
    """Of organisations, teams and keys, living and revoked."""

    organisations: Mapping[str, str]
    teams: Mapping[str, str]
    keys: Mapping[str, str]

    def of(self, scope: str, scope_id: str) -> str:
        """The name behind an id; models and tags are their own."""
        known = {"organisation": self.organisations, "team": self.teams, "key": self.keys}.get(scope, {})
        return known.get(scope_id, scope_id)


async def names_of(stores: Stores) -> Names:
    """All of them; raises `DatabaseUnavailable`."""
    return Names(
        {row.id: row.name for row in await stores.tenants.list(Scope.ORGANISATION)},
        {row.id: row.name for row in await stores.tenants.list(Scope.TEAM)},
        {row.id: row.name for row in await stores.keys.list()},
    )
