"""JSON bodies from strangers: decode in C, and turn every failure into an error that names the field."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
from msgspec import Raw

from gateway.errors import InvalidRequest

T = TypeVar("T")

_PATH = re.compile(r"`\$\.?(?P<path>[^`]*)`")
_FIELD = re.compile(r"field `(?P<name>[^`]+)`")
_FIELDS = msgspec.json.Decoder(dict[str, Raw])


MAX_DEPTH = 64
# A string, skipped whole, or one bracket.
_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)


def check_depth(body: bytes) -> None:
    """Refuse nesting that no client needs and that costs whoever walks it; few brackets need no closer look."""
    if body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return
    depth = 0
    for found in _BRACKET.finditer(body):
        bracket = body[found.start()]
        if bracket in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise InvalidRequest(f"The body is nested more than {MAX_DEPTH} levels deep; flatten it.")
        elif bracket in b"]}":
            depth -= 1


def decode_typed(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode and validate; raises `InvalidRequest` with `param` set to the JSON path."""
    check_depth(body)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _wrong_field(str(error)) from error
    except RecursionError as error:
        raise InvalidRequest("The body is nested too deeply; flatten it.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.", param=None) from error


def decode_fields(body: bytes) -> dict[str, Raw]:
    """The top-level fields with their values as raw JSON, in order."""
    try:
        return _FIELDS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not a JSON object: {error}.") from error


def _wrong_field(text: str) -> InvalidRequest:
    """msgspec says "Expected `int`, got `str` - at `$.messages[0].role`"; clients need the path on its own."""
    reason, _, place = text.partition(" - at ")
    found = _PATH.search(place)
    path = found.group("path") if found else ""
    missing = _FIELD.search(reason)
    if missing and "missing required" in reason:
        path = f"{path}.{missing.group('name')}" if path else missing.group("name")
        return InvalidRequest(f"Missing required field '{path}'.", param=path)
    where = f"'{path}'" if path else "The body"
    return InvalidRequest(f"{where} is not valid: {reason[0].lower()}{reason[1:]}.", param=path or None)
