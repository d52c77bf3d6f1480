"""Lays one catalogue file over another, row by row and field by field, on raw bodies; knows the names of
tables, nothing more of the schema.

Remembers which file each merged field came from, so that a problem is told with the right file and line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policies.document import Document
from policies.errors import Problem
from policies.explain import Fault
from policies.positions import Path

TABLES = ("model", "endpoint")
PRICE_ROWS = "price"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a merged row came from: its index in the base and in the overriding file, None where absent."""

    base: int | None
    over: int | None


@dataclass(frozen=True, slots=True)
class Merged:
    """The merged body with the origin of each row; of an id that the overriding file repeats, the last row wins."""

    body: dict[str, Any]
    origins: Mapping[str, list[Origin]]
    base: Document
    over: Document

    def problem(self, fault: Fault) -> Problem:
        """The fault as a problem of the file that set the faulty field."""
        path, message, fix = fault
        document, there = self._locate(path)
        return document.problem(there, message, fix)

    def _locate(self, path: Path) -> tuple[Document, Path]:
        if len(path) < 2 or not isinstance(path[0], str) or not isinstance(path[1], int) or path[0] not in self.origins:
            return (self.over if path and path[0] in self.over.body else self.base), path
        table, origin = path[0], self.origins[path[0]][path[1]]
        if origin.over is None or (origin.base is not None and not self._sets(table, origin.over, path[2:])):
            return self.base, (table, origin.base or 0, *path[2:])
        return self.over, (table, origin.over, *path[2:])

    def _sets(self, table: str, index: int, keys: Path) -> bool:
        return not keys or keys[0] in self.over.body[table][index]


def merge(base: Document, over: Document) -> Merged:
    """Rows of `over` replace the fields they set in the base row of the same id; others are appended."""
    body: dict[str, Any] = {**base.body, **over.body}
    origins: dict[str, list[Origin]] = {}
    for table in TABLES:
        below, above = base.body.get(table, []), over.body.get(table, [])
        if _is_rows(below) and _is_rows(above):
            body[table], origins[table] = _merge_rows(below, above)
    return Merged(body, origins, base, over)


def _merge_rows(below: list[Any], above: list[Any]) -> tuple[list[Any], list[Origin]]:
    rows = [dict(row) for row in below]
    origins = [Origin(index, None) for index in range(len(below))]
    places = {row["id"]: index for index, row in enumerate(below) if isinstance(row.get("id"), str)}
    for index, row in enumerate(above):
        place = places.get(row.get("id")) if isinstance(row.get("id"), str) else None
        if place is None:
            rows.append(dict(row))
            origins.append(Origin(None, index))
        else:
            rows[place] = _laid_over(rows[place], row)
            origins[place] = Origin(place, index)
    return rows, origins


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """The fields of both; a price that the upper file sets is not undone by dated prices of the lower one."""
    if PRICE_ROWS not in above and any(key.startswith(f"{PRICE_ROWS}_") for key in above):
        below = {key: value for key, value in below.items() if key != PRICE_ROWS}
    return {**below, **above}


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)
