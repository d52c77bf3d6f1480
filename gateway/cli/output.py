"""How commands speak: tables for people, JSON for pipes, one line for a failure."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from gateway.settings import PREFIX, Settings


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


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """A table that fits the terminal; in a pipe it is as wide as it needs to be."""
    table = Table(*columns, title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console = Console()
    console.print(table, soft_wrap=not console.is_terminal)


def print_fields(fields: Mapping[str, Any]) -> None:
    """Name and value, a line each."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        print(f"{name:<{width}}  {value}")
