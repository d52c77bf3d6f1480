"""Columns of a table as ids, texts and numbers, each cell checked; what is wrong is a `DataError` with its row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from routers.training.dataset import Doubles
from routers.training.errors import shown
from routers.training.tables import Table


def identifiers(table: Table, field: str) -> list[str]:
    """Ids, none of them empty."""
    found = [_text(value) for value in table.columns[field]]
    for place, one in enumerate(found):
        if not one.strip():
            raise table.fault(place, field, "is empty", "give it an id")
    return found


def unique_identifiers(table: Table, field: str) -> dict[str, int]:
    """Ids with their places, none of them twice."""
    places: dict[str, int] = {}
    for place, one in enumerate(identifiers(table, field)):
        if places.setdefault(one, place) != place:
            what = f"{shown(one)} stands in row {table.rows[places[one]]} already"
            raise table.fault(place, field, what, "keep one of the rows, or give each its own id")
    return places


def texts(table: Table, field: str) -> list[str]:
    """Texts, '' where a cell is empty or the column is not there."""
    if field not in table.columns:
        return [""] * len(table)
    return [_text(value) for value in table.columns[field]]


def numbers(table: Table, field: str, low: float = 0.0, high: float = math.inf, above: float = -math.inf) -> Doubles:
    """Numbers in low..high and above `above`, NaN where a cell is empty or the column is not there [rows]."""
    if field not in table.columns:
        return np.full(len(table), np.nan)
    values = table.columns[field]
    empty = np.fromiter((value is None or value == "" for value in values), dtype=bool, count=len(values))
    try:
        found = np.array([math.nan if value is None or value == "" else value for value in values], dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        found = np.array([_number(table, field, place, value) for place, value in enumerate(values)])
    wrong = ~empty & ~(np.isfinite(found) & (found >= low) & (found <= high) & (found > above))
    if wrong.any():
        place = int(wrong.argmax())
        raise table.fault(place, field, f"is {shown(values[place])}, {_wanted(low, high, above)}", _FIX)
    return found


_FIX = "correct it, or leave it empty where it is not known"


def _wanted(low: float, high: float, above: float) -> str:
    if math.isinf(high):
        return f"which is not a number of {low:g} or more"
    return f"which is not a number in {low:g}..{high:g}" + (" above 0" if above == 0 else "")


def _number(table: Table, field: str, place: int, value: Any) -> float:
    if value is None or value == "":
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise table.fault(place, field, f"is {shown(value)}, which is no number", _FIX) from None


def _text(value: Any) -> str:
    return "" if value is None else str(value)
