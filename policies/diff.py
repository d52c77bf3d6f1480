"""What changed between two policies, key by key, for people to read; knows no files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from policies.schema import Policy


class ChangeKind(StrEnum):
    """How a key differs; the value is the sign that `render` prints."""

    ADDED = "+"
    REMOVED = "-"
    CHANGED = "~"


@dataclass(frozen=True, slots=True)
class Change:
    """One key path with its values as plain JSON; `before` is None where added, `after` where removed."""

    path: str
    kind: ChangeKind
    before: Any
    after: Any

    def __str__(self) -> str:
        if self.kind is ChangeKind.ADDED:
            return f"+ {self.path} = {_shown(self.after)}"
        if self.kind is ChangeKind.REMOVED:
            return f"- {self.path} = {_shown(self.before)}"
        return f"~ {self.path}: {_shown(self.before)} -> {_shown(self.after)}"


def diff(old: Policy, new: Policy) -> tuple[Change, ...]:
    """Changes in key order; rows that have a name (categories, rules) are matched by it, whatever their order.

    A changed order of such rows is itself a change (`category order`), since the first match wins.
    """
    return tuple(_tables(_body(old), _body(new), ""))


def render(changes: Sequence[Change]) -> str:
    """One line a change, or "no changes"."""
    return "\n".join(str(change) for change in changes) or "no changes"


def _body(policy: Policy) -> dict[str, Any]:
    body: dict[str, Any] = policy.model_dump(mode="json", by_alias=True, exclude_none=True)
    return body


def _tables(old: dict[str, Any], new: dict[str, Any], prefix: str) -> Iterator[Change]:
    for key in [*old, *(key for key in new if key not in old)]:
        path = f"{prefix}.{key}" if prefix else key
        if key not in new:
            yield Change(path, ChangeKind.REMOVED, old[key], None)
        elif key not in old:
            yield Change(path, ChangeKind.ADDED, None, new[key])
        else:
            yield from _values(old[key], new[key], path)


def _values(old: Any, new: Any, path: str) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _tables(old, new, path)
    elif _named(old) and _named(new) and (old or new):
        yield from _rows({row["name"]: row for row in old}, {row["name"]: row for row in new}, path)
    elif old != new:
        yield Change(path, ChangeKind.CHANGED, old, new)


def _rows(old: dict[str, Any], new: dict[str, Any], path: str) -> Iterator[Change]:
    for name in [*old, *(name for name in new if name not in old)]:
        row = f"{path}[{name}]"
        if name not in new:
            yield Change(row, ChangeKind.REMOVED, old[name], None)
        elif name not in old:
            yield Change(row, ChangeKind.ADDED, None, new[name])
        else:
            yield from _tables(old[name], new[name], row)
    before, after = [name for name in old if name in new], [name for name in new if name in old]
    if before != after:
        yield Change(f"{path} order", ChangeKind.CHANGED, before, after)


def _named(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) and "name" in row for row in value)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
