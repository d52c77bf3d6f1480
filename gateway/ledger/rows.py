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
from dataclasses import MISSING, dataclass, fields
from operator import attrgetter, index
from typing import Any, Final

import msgspec
from sqlalchemy import JSON, Boolean, Double, Integer, LargeBinary, Table, Text

from gateway.ledger.record import Child, Entry, Record, ShadowDecision
from gateway.ledger.tables import request_child, request_log
from gateway.ledger.trial_tables import shadow_decision

Row = tuple[Any, ...]

COLUMNS: Final = tuple(column.name for column in request_log.columns)
CHILD_COLUMNS: Final = tuple(column.name for column in request_child.columns)
SHADOW_COLUMNS: Final = tuple(column.name for column in shadow_decision.columns)
MAX_COUNT: Final = 10**15
MAX_STATUS: Final = 2**31 - 1
MAX_JSON_BYTES: Final = 256 * 1024
MAX_BLOB_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 32
# In an index.
_NAMES: Final = (
    "id",
    "parent_id",
    "request_id",
    "trial_id",
    "trial_unit",
    "key_id",
    "model",
    "end_user",
)
_LONG_TEXT: Final = {"prompt": 1_000_000, "answer": 1_000_000, **dict.fromkeys(_NAMES, 200)}
_REPLACEMENT: Final = "\ufffd"


class RowError(ValueError):
    """A record that no database could take; the message names the column."""


class ChildRow(tuple[Any, ...]):
    """A row of `request_child`."""

    __slots__ = ()


class ShadowRow(tuple[Any, ...]):
    """A row of `shadow_decision`; every row of neither kind is one of `request_log`."""

    __slots__ = ()


def to_row(record: Record) -> Row:
    """The record's values in the order of `COLUMNS`; raises `RowError` for a value of the wrong type."""
    return _converted(_REQUEST, record)


def to_rows(record: Entry) -> list[Row]:
    """The record's row, and those of its children; raises `RowError`."""
    if isinstance(record, ShadowDecision):
        return [ShadowRow(_converted(_SHADOW, record))]
    if not record.children:
        return [_converted(_REQUEST, record)]
    return [_converted(_REQUEST, record), *(ChildRow(_converted(_CHILD, one)) for one in record.children)]


def columns_of(row: Row) -> tuple[str, ...]:
    """The names of a row's columns, in their order."""
    if type(row) is ShadowRow:
        return SHADOW_COLUMNS
    return CHILD_COLUMNS if type(row) is ChildRow else COLUMNS


def to_line(row: Row) -> bytes:
    """One JSON object and a newline; columns that are NULL are left out."""
    pairs = {name: value for name, value in zip(columns_of(row), row, strict=True) if value is not None}
    return msgspec.json.encode(pairs) + b"\n"


def from_line(line: bytes) -> Row:
    """The row of a spool line, also of one written by a release with other columns; raises `RowError` if it is none."""
    try:
        pairs = msgspec.json.decode(line, type=dict[str, Any])
        if isinstance(pairs.get("parent_id"), str) and isinstance(pairs.get("seq"), int):
            return ChildRow(pairs.get(name, _CHILD_DEFAULTS.get(name)) for name in CHILD_COLUMNS)
        if isinstance(pairs.get("request_id"), str) and isinstance(pairs.get("trial_id"), str):
            return ShadowRow(pairs.get(name, _SHADOW_DEFAULTS.get(name)) for name in SHADOW_COLUMNS)
        if not isinstance(pairs.get("id"), str):
            raise RowError("no id")
        if "embedding" in pairs:
            pairs["embedding"] = base64.b64decode(pairs["embedding"], validate=True)
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        raise RowError(f"not a spool line: {error}") from None
    return tuple(pairs.get(name, _DEFAULTS.get(name)) for name in COLUMNS)


def _converted(shape: _Shape, record: Entry | Child) -> Row:
    values = list(shape.read(record))
    for place, cap, name in shape.texts:
        value = values[place]
        if value is not None and not (
            type(value) is str and len(value) <= cap and value.isascii() and "\0" not in value
        ):
            values[place] = _text(value, cap, name)
    for place, kind, low, high, convert, name in shape.numbers:
        value = values[place]
        if value is not None and not (type(value) is kind and low <= value <= high):
            values[place] = convert(value, name)
    for place, convert, name in shape.others:
        value = values[place]
        if value is not None:
            values[place] = convert(value, name)
    for place, name in shape.required:
        if values[place] is None:
            raise RowError(f"{name}: a value is needed")
    return tuple(values)


def _text(value: Any, cap: int, name: str) -> str:
    """The slow way, for text that is long, not ASCII, or no text at all."""
    if not isinstance(value, str):
        raise RowError(f"{name}: text expected, not {type(value).__name__}")
    cleaned = clean(str.__str__(value))
    if len(cleaned) <= cap:
        return cleaned
    if name in ("id", "parent_id"):  # cut ids must stay different: the database keeps one row for each
        return f"{cleaned[:100]}~{hashlib.sha256(cleaned.encode()).hexdigest()}"
    return cleaned[:cap]


def clean(value: str) -> str:
    """Text that UTF-8 and PostgreSQL can hold: U+FFFD for NUL and for surrogates that have no partner."""
    try:
        value.encode()
    except UnicodeEncodeError:
        value = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value.replace("\0", _REPLACEMENT)


def _count(value: Any, name: str) -> int:
    cap = MAX_STATUS if name == "status" else MAX_COUNT
    try:
        return max(-cap, min(cap, value if type(value) is int else index(value)))
    except TypeError:
        raise RowError(f"{name}: a whole number expected, not {type(value).__name__}") from None


def _number(value: Any, name: str) -> float | None:
    try:
        number = value if type(value) is float else float(value)
    except (TypeError, ValueError, OverflowError):
        raise RowError(f"{name}: a number expected, not {type(value).__name__}") from None
    return number if math.isfinite(number) else None


def _flag(value: Any, name: str) -> bool:
    return bool(value)


def _blob(value: Any, name: str) -> bytes | None:
    if not isinstance(value, bytes):
        raise RowError(f"{name}: bytes expected, not {type(value).__name__}")
    return value if len(value) <= MAX_BLOB_BYTES else None  # a part of an embedding is worth nothing


def _json(value: Any, name: str) -> str:
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


_Convert = Callable[[Any, str], Any]


@dataclass(frozen=True, slots=True)
class _Shape:
    """How one table's rows are made: places and names of its columns, by what their values need."""

    read: Callable[[Entry | Child], Row]
    texts: tuple[tuple[int, int, str], ...]
    numbers: tuple[tuple[int, type[Any], float, float, _Convert, str], ...]
    others: tuple[tuple[int, _Convert, str], ...]
    required: tuple[tuple[int, str], ...]


def _shape_of(table: Table) -> _Shape:
    columns = [(place, one.name, one.type) for place, one in enumerate(table.columns)]
    low, high = -sys.float_info.max, sys.float_info.max

    def places(kind: type[Any]) -> Iterator[tuple[int, str]]:
        return ((place, name) for place, name, found in columns if isinstance(found, kind))

    return _Shape(
        read=attrgetter(*(name for _, name, _ in columns)),
        texts=tuple((place, _LONG_TEXT.get(name, 1000), name) for place, name in places(Text)),
        numbers=(
            *((place, float, low, high, _number, name) for place, name in places(Double)),
            *((place, int, -MAX_STATUS, MAX_STATUS, _count, name) for place, name in places(Integer)),
            *((place, bool, False, True, _flag, name) for place, name in places(Boolean)),
        ),
        others=(
            *((place, _json, name) for place, name in places(JSON)),
            *((place, _blob, name) for place, name in places(LargeBinary)),
        ),
        required=tuple((place, one.name) for place, one in enumerate(table.columns) if not one.nullable),
    )


_encoder: Final = msgspec.json.Encoder(enc_hook=_foreign)
_REQUEST: Final = _shape_of(request_log)
_CHILD: Final = _shape_of(request_child)
_SHADOW: Final = _shape_of(shadow_decision)
_DEFAULTS: Final[dict[str, Any]] = {f.name: f.default for f in fields(Record) if f.default is not MISSING}
_CHILD_DEFAULTS: Final[dict[str, Any]] = {f.name: f.default for f in fields(Child) if f.default is not MISSING}
_SHADOW_DEFAULTS: Final[dict[str, Any]] = {
    f.name: f.default for f in fields(ShadowDecision) if f.default is not MISSING
}
