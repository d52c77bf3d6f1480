"""From a Record to a row that both databases take, and from a row to a spool line and back; knows no database.

What strangers may have put into a record is made storable here: NUL characters and lone surrogates become U+FFFD,
NaN and infinities become NULL, counts are held within +-10**15 (so that sums fit 64 bits), and sizes are capped:
`prompt` and `answer` at 1,000,000 characters, other text at 1,000, names in an index at 200, JSON at 256 KiB.
"""

from __future__ import annotations

import base64
import hashlib
import math
import numbers
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from operator import attrgetter, index
from typing import Any, Final

import msgspec
from sqlalchemy import JSON, Boolean, Double, Integer, LargeBinary, Text

from gateway.ledger.record import Record
from gateway.ledger.tables import request_log

Row = tuple[Any, ...]

COLUMNS: Final = tuple(column.name for column in request_log.columns)
MAX_COUNT: Final = 10**15
MAX_STATUS: Final = 2**31 - 1
MAX_JSON_BYTES: Final = 256 * 1024
MAX_BLOB_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 32
_LONG_TEXT: Final = {"prompt": 1_000_000, "answer": 1_000_000, "id": 200, "key_id": 200, "model": 200, "end_user": 200}
_REPLACEMENT: Final = "\ufffd"


class RowError(ValueError):
    """A record that no database could take; the message names the column."""


def to_row(record: Record) -> Row:
    """The record's values in the order of `COLUMNS`; raises `RowError` for a value of the wrong type."""
    values = list(_read(record))
    for place, cap in _TEXT:
        value = values[place]
        if value is not None and not (
            type(value) is str and len(value) <= cap and value.isascii() and "\0" not in value
        ):
            values[place] = _text(value, cap, place)
    for place, kind, low, high, convert in _NUMBERS:
        value = values[place]
        if value is not None and not (type(value) is kind and low <= value <= high):
            values[place] = convert(value, place)
    for place, convert in _OTHERS:
        value = values[place]
        if value is not None:
            values[place] = convert(value, place)
    for place in _REQUIRED:
        if values[place] is None:
            raise RowError(f"{COLUMNS[place]}: a value is needed")
    return tuple(values)


def to_line(row: Row) -> bytes:
    """One JSON object and a newline; columns that are NULL are left out."""
    pairs = {name: value for name, value in zip(COLUMNS, row, strict=True) if value is not None}
    return msgspec.json.encode(pairs) + b"\n"


def from_line(line: bytes) -> Row:
    """The row of a spool line, also of one written by a release with other columns; raises `RowError` if it is none."""
    try:
        pairs = msgspec.json.decode(line, type=dict[str, Any])
        if not isinstance(pairs.get("id"), str):
            raise RowError("no id")
        if "embedding" in pairs:
            pairs["embedding"] = base64.b64decode(pairs["embedding"], validate=True)
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        raise RowError(f"not a spool line: {error}") from None
    return tuple(pairs.get(name, _DEFAULTS.get(name)) for name in COLUMNS)


def _text(value: Any, cap: int, place: int) -> str:
    """The slow way, for text that is long, not ASCII, or no text at all."""
    if not isinstance(value, str):
        raise RowError(f"{COLUMNS[place]}: text expected, not {type(value).__name__}")
    cleaned = clean(str.__str__(value))
    if len(cleaned) <= cap:
        return cleaned
    if COLUMNS[place] == "id":  # cut ids must stay different: the database keeps one row for each
        return f"{cleaned[:100]}~{hashlib.sha256(cleaned.encode()).hexdigest()}"
    return cleaned[:cap]


def clean(value: str) -> str:
    """Text that UTF-8 and PostgreSQL can hold: U+FFFD for NUL and for surrogates that have no partner."""
    try:
        value.encode()
    except UnicodeEncodeError:
        value = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value.replace("\0", _REPLACEMENT)


def _count(value: Any, place: int) -> int:
    cap = MAX_STATUS if COLUMNS[place] == "status" else MAX_COUNT
    try:
        return max(-cap, min(cap, value if type(value) is int else index(value)))
    except TypeError:
        raise RowError(f"{COLUMNS[place]}: a whole number expected, not {type(value).__name__}") from None


def _number(value: Any, place: int) -> float | None:
    try:
        number = value if type(value) is float else float(value)
    except (TypeError, ValueError, OverflowError):
        raise RowError(f"{COLUMNS[place]}: a number expected, not {type(value).__name__}") from None
    return number if math.isfinite(number) else None


def _flag(value: Any, place: int) -> bool:
    return bool(value)


def _blob(value: Any, place: int) -> bytes | None:
    if not isinstance(value, bytes):
        raise RowError(f"{COLUMNS[place]}: bytes expected, not {type(value).__name__}")
    return value if len(value) <= MAX_BLOB_BYTES else None  # a part of an embedding is worth nothing


def _json(value: Any, place: int) -> str:
    """JSON text; NaN and infinities are null, what JSON cannot hold becomes words."""
    try:
        encoded = _encoder.encode(value)
    except (ValueError, TypeError, RecursionError, OverflowError):
        encoded = _encoder.encode(_plain(value, MAX_DEPTH))
    else:
        if b"\\u0000" in encoded:
            encoded = _encoder.encode(_plain(value, MAX_DEPTH))
    if len(encoded) > MAX_JSON_BYTES:
        note = {"left_out_bytes": len(encoded)}
        encoded = _encoder.encode([note] if isinstance(value, list) else note)
    return encoded.decode()


def _plain(value: Any, depth: int) -> Any:
    """The same value made of what every JSON reader and PostgreSQL accept."""
    if isinstance(value, str):
        return clean(value)
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= 64 else f"a whole number of {value.bit_length()} bits"
    if depth == 0:
        return "(nested too deeply)"
    if isinstance(value, dict):
        return {clean(str(key)): _plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, depth - 1) for item in value]
    return _foreign(value)


def _foreign(value: Any) -> Any:
    """NumPy's scalars are numbers; the rest is shown."""
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    return clean(repr(value)[:1000])


def _places(kind: type[Any]) -> Iterator[int]:
    return (place for place, column in enumerate(request_log.columns) if isinstance(column.type, kind))


_encoder: Final = msgspec.json.Encoder(enc_hook=_foreign)
_read: Final[Callable[[Record], Row]] = attrgetter(*COLUMNS)
_TEXT: Final = tuple((place, _LONG_TEXT.get(COLUMNS[place], 1000)) for place in _places(Text))
_NUMBERS: Final[tuple[tuple[int, type[Any], float, float, Callable[[Any, int], Any]], ...]] = (
    *((place, float, -sys.float_info.max, sys.float_info.max, _number) for place in _places(Double)),
    *((place, int, -MAX_STATUS, MAX_STATUS, _count) for place in _places(Integer)),
    *((place, bool, False, True, _flag) for place in _places(Boolean)),
)
_OTHERS: Final[tuple[tuple[int, Callable[[Any, int], Any]], ...]] = (
    *((place, _json) for place in _places(JSON)),
    *((place, _blob) for place in _places(LargeBinary)),
)
_REQUIRED: Final = tuple(place for place, column in enumerate(request_log.columns) if not column.nullable)
_DEFAULTS: Final[dict[str, Any]] = {f.name: f.default for f in fields(Record) if f.default is not MISSING}
