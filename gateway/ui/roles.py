"""What somebody may do in the console."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

KEY_ROLE: Final = "console_role"


class Role(StrEnum):
    """Each may also do what those before may."""

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"

    def may(self, needed: Role | str) -> bool:
        """Whether this role is enough; templates name it by its word."""
        order = list(Role)
        return order.index(self) >= order.index(Role(needed))


def lower(one: Role, other: Role) -> Role:
    """The lesser of two."""
    return one if other.may(one) else other


def key_role(most: Role | None, metadata: Mapping[str, Any]) -> Role | None:
    """What an admin key may do, at most `most`: its metadata's `console_role` makes that less. None: not log in."""
    said = metadata.get(KEY_ROLE)
    if said is None or most is None:
        return most
    return lower(most, Role(said)) if said in list(Role) else None


def roles_of(text: str) -> dict[str, Role]:
    """`value=role, value=role` as a mapping; `ValueError` for anything else."""
    found: dict[str, Role] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        value, _, role = part.rpartition("=")
        if not value.strip() or role.strip() not in list(Role):
            raise ValueError(f"{part!r} is not value=role with a role of {', '.join(Role)}")
        found[value.strip()] = Role(role.strip())
    return found
