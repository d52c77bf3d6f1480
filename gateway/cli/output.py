"""How commands speak: tables for people, JSON for pipes, one line for a failure."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn, TypeVar

from pydantic import ValidationError
from rich.cells import cell_len

from gateway.settings import PREFIX, Settings

Row = TypeVar("Row")


def fail(message: str, code: int = 2) -> NoReturn:
    """Say what is wrong on standard error and stop."""
    for line in message.splitlines() or [""]:
        print(f"fingerpost: {line}", file=sys.stderr)
    sys.exit(code)


def settings_or_fail(**given: Any) -> Settings:
    """Settings from the environment with the flags that were given on top."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        fail("\n".join(_setting(one["loc"], one["msg"], one["input"]) for one in error.errors()))


def _setting(path: tuple[int | str, ...], message: str, given: object) -> str:
    name = PREFIX + ".".join(map(str, path)).upper()
    return f"{name} (or its flag): {message.removeprefix('Value error, ')}, got {given!r}"


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table as wide as it needs to be: a shortened id could not be pasted, so the terminal wraps."""
    table = [list(columns), *([_cell(cell) for cell in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True))
        print("  ".join(padded).rstrip())


def print_rows(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """As a table of these columns, or whole as JSON."""
    print_json(rows) if as_json else print_table(columns, ([row[column] for column in columns] for row in rows))


def print_updated(what: str, row_id: str, row: Row | None, shown: Callable[[Row], Any], *, as_json: bool) -> None:
    """That a row was changed, or what it is now as JSON; exits 1 where there is none."""
    if row is None:
        fail(f"there is no {what} '{row_id}'", code=1)
    print_json(shown(row)) if as_json else print(f"{row_id} is updated")


def _cell(value: Any) -> str:
    """On one line, and without codes that a terminal would obey."""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    text = "" if value is None else str(value)
    return "".join(one if one.isprintable() else "?" for one in text)


def print_fields(fields: Mapping[str, Any]) -> None:
    """Name and value, a line each."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        print(f"{name:<{width}}  {value}")
