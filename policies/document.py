"""A TOML file as it was read: its name, text and raw body. Reading and syntax only; the schema is unknown here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path as File
from typing import Any

from policies.errors import PolicyError, Problem
from policies.positions import Path, key_lines, line_of

MAX_BYTES = 1_000_000
MAX_DEPTH = 32

_NOT_UTF8 = ("is not UTF-8 text", "save the file as UTF-8")
_TOO_DEEP = ("is nested too deeply", "use fewer levels of [ and {")
_TOML_PLACE = re.compile(
    r"^(?P<message>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Document:
    """`name` is what messages call the file; `body` holds tomllib's plain values, not yet validated."""

    name: str
    text: str
    body: dict[str, Any]

    def problem(self, path: Path, message: str, fix: str) -> Problem:
        """A problem at a key path, with the line that the path has in this text."""
        return Problem(self.name, line_of(key_lines(self.text), path), shown_path(path, self.body), message, fix)


def read_document(path: File) -> Document:
    """Reads a file; raises `PolicyError` where it is missing, too large, not UTF-8 or not TOML."""
    name = str(path)
    try:
        if not path.is_file():
            raise PolicyError([_not_a_file(path)])
        # One byte more than allowed tells a file that is too large even if it grew since it was listed.
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise PolicyError([Problem(name, None, "", f"cannot be read: {reason}", "check its permissions")]) from error
    return parse_bytes(raw, name)


def parse_bytes(raw: bytes, name: str) -> Document:
    """Decodes and parses the bytes of a file (a UTF-8 byte order mark is accepted); raises `PolicyError`."""
    _refuse_large(raw, name)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise PolicyError([Problem(name, line, "", *_NOT_UTF8)]) from error
    return parse_document(text, name)


def parse_document(text: str, name: str) -> Document:
    """Parses TOML text that messages call `name`; raises `PolicyError` with tomllib's own line and column."""
    try:
        _refuse_large(text.encode(), name)
        body = tomllib.loads(text)
    except UnicodeEncodeError as error:
        raise PolicyError([Problem(name, None, "", *_NOT_UTF8)]) from error
    except tomllib.TOMLDecodeError as error:
        raise PolicyError([_syntax_problem(str(error), text, name)]) from error
    except RecursionError as error:
        raise PolicyError([Problem(name, None, "", *_TOO_DEEP)]) from error
    except ValueError as error:  # Python's own limit on the digits of a number
        raise PolicyError([Problem(name, None, "", "holds a number of too many digits", "shorten it")]) from error
    document = Document(name, text, body)
    unusable = [document.problem(path, message, fix) for path, message, fix in _unusable(body)]
    if unusable:
        raise PolicyError(unusable)
    return document


def shown_path(path: Path, body: Any) -> str:
    """A key path for people: rows of a list of tables are called by their id or name, others by their number."""
    shown = ""
    for step in path:
        body = _child(body, step)
        if isinstance(step, int):
            label = body.get("id", body.get("name")) if isinstance(body, dict) else None
            shown += f"[{label}]" if isinstance(label, str) else f"[#{step + 1}]"
        else:
            shown += f".{step}" if shown else step
    return shown


def _child(body: Any, step: str | int) -> Any:
    if isinstance(body, dict):
        return body.get(step)
    if isinstance(body, list) and isinstance(step, int) and step < len(body):
        return body[step]
    return None


def _unusable(value: Any, path: Path = ()) -> Iterator[tuple[Path, str, str]]:
    """Values that TOML allows and no key of ours does: dates, numbers beyond 64 bits, very deep nesting."""
    if isinstance(value, date | time):
        yield path, "a date or time is not allowed here", "put it in quotes"
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        yield path, "is a number of more than 64 bits", "give a smaller number"
    elif isinstance(value, dict | list) and len(path) >= MAX_DEPTH:
        yield path, *_TOO_DEEP
    elif isinstance(value, dict):
        for key, child in value.items():
            yield from _unusable(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _unusable(child, (*path, index))


def _refuse_large(raw: bytes, name: str) -> None:
    if len(raw) > MAX_BYTES:
        fix = "split it, or remove what does not belong there"
        raise PolicyError([Problem(name, None, "", f"is larger than {MAX_BYTES // 1_000_000} MB", fix)])


def _not_a_file(path: File) -> Problem:
    if not path.exists():
        return Problem(str(path), None, "", "does not exist", "check the path")
    return Problem(str(path), None, "", "is not a regular file", "give the path of a .toml file")


def _syntax_problem(error: str, text: str, name: str) -> Problem:
    place = _TOML_PLACE.match(error)
    message = place["message"] if place else error
    if place and place["line"]:
        line, column = int(place["line"]), f"column {place['column']}: "
    else:
        line, column = text.count("\n") + 1, "end of the file: "
    return Problem(name, line, "", f"{column}not valid TOML: {message}", _syntax_fix(message))


def _syntax_fix(message: str) -> str:
    if "overwrite" in message or "twice" in message:
        return "keep one of the two definitions of this key"
    if message.startswith(("Unterminated string", "Illegal character", "Expected \"'", "Expected '\"")):
        return "close the quotes on the same line (or use triple quotes)"
    if message.startswith("Unescaped"):
        return "write \\\\ for a backslash, or put the text in 'single quotes'"
    return 'write keys as name = value, text in "quotes", lists in [brackets]'
