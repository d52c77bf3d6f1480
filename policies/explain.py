"""Turns pydantic's errors into sentences a person can act on; knows the models' fields, not the files."""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from policies.positions import Path

_KINDS = {str: "text in quotes", int: "a whole number", float: "a number", bool: "true or false"}

Fault = tuple[Path, str, str]
Sentence = Callable[[ErrorDetails, "FieldInfo | None"], tuple[str, str]]

_NAME = "lower-case letters, digits, '-' and '_', starting with a letter (64 at most)"
_PATTERNS = {
    r"^[a-z][a-z0-9_-]{0,63}$": (f"must be made of {_NAME}", "rename it, such as 'my-policy'"),
    r"^[a-z]{2,3}$": ("must be a language code of two or three letters", "write a code such as 'en' or 'de'"),
    r"^[a-z][a-z0-9_]*$": ("must be a provider's name", "write 'openai' or 'local', in lower case"),
    r"^(env|secret):[A-Za-z_][A-Za-z0-9_]*$": (
        "must name an environment variable as env:NAME, or a stored key as secret:NAME (no key stands in the file)",
        'write it like "env:OPENAI_API_KEY" and set that variable, or use `fingerpost secrets set`',
    ),
    r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$": (
        "must be made of letters, digits and . _ : / @ + -, starting with a letter or digit",
        "rename it without spaces or other signs",
    ),
}
_VALUE_FIXES = {
    "at least one of quality": "give quality, cost or latency a number above 0",
    "pacing needs a cost weight": "set cost under [objective], such as cost = 0.5, or remove [pacing]",
    "a judge is needed": 'add judge = "..." with the id of a model, or use scorer = "consensus"',
    "a category needs": "add when = { ... } or examples = [ ... ]",
    "a price row needs": 'write since = "2027-01-01", or above_input_tokens = 200000',
    "a price row names no price": "add the prices that change, or remove the row",
    "price rows need": "add both: they hold until the first row does",
    "two price rows": "keep one of them, or change its 'since'",
    "base_url must start": 'write base_url = "https://host/v1" or base_url = "env:NAME"',
    "base_url is required": 'add base_url = "https://host/v1" (or "env:NAME"), or use provider = "local"',
}


def faults(error: ValidationError, model: type[BaseModel]) -> Iterator[Fault]:
    """Key path, message and fix of every error of a validation against `model`."""
    for details in error.errors(include_url=False):
        path = details["loc"]
        field = _field(model, path)
        if details["type"] == "extra_forbidden":
            yield path, "is not a known key", _nearest_key(model, path)
        else:
            yield (path, *_SENTENCES.get(details["type"], _other)(details, field))


def shown(value: Any) -> str:
    """A value as it might stand in the file, shortened."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word that looks most like `word`, if any does."""
    return next(iter(get_close_matches(word, known, n=1, cutoff=0.6)), None)


def _nearest_key(model: type[BaseModel], path: Path) -> str:
    parent = _model_at(model, path[:-1])
    known = [field.alias or name for name, field in parent.model_fields.items()] if parent else []
    near = nearest(str(path[-1]), known)
    hint = f"write '{near}'" if near else "remove it"
    return f"{hint} (known keys here: {', '.join(known)})" if known else hint


def _wrong_type(expected: str, fix: str) -> Sentence:
    return lambda details, field: (f"must be {expected}, got {shown(details['input'])}", fix)


def _number(expected: str) -> Sentence:
    return lambda details, field: (f"must be {expected}, got {shown(details['input'])}", _range_fix(field, expected))


def _bound(sign: str, key: str) -> Sentence:
    def sentence(details: ErrorDetails, field: FieldInfo | None) -> tuple[str, str]:
        limit = _plain(details["ctx"][key])
        return f"must be {sign} {limit}, got {shown(details['input'])}", _range_fix(field, "a number")

    return sentence


_DAY = _wrong_type("a day", 'write year, month and day in quotes, such as "2027-01-01"')


def _missing(details: ErrorDetails, field: FieldInfo | None) -> tuple[str, str]:
    kind = next((words for kind, words in _KINDS.items() if field and field.annotation is kind), "a value")
    return "is missing", f"add a line that sets {details['loc'][-1]} to {kind}"


def _enum(details: ErrorDetails, field: FieldInfo | None) -> tuple[str, str]:
    expected = details["ctx"]["expected"]
    words = expected.replace(" or ", ", ").replace("'", "").split(", ")
    near = nearest(str(details["input"]), words)
    fix = f"write '{near}'" if near else f"write one of {expected}"
    return f"must be one of {expected}, got {shown(details['input'])}", fix


def _pattern(details: ErrorDetails, field: FieldInfo | None) -> tuple[str, str]:
    pattern = details["ctx"]["pattern"]
    message, fix = _PATTERNS.get(pattern, (f"must match {pattern}", "rewrite it to match"))
    if pattern.startswith("^(env|secret):"):
        return message, fix  # what stands there may be a key: never print it
    return f"{message}, got {shown(details['input'])}", fix


def _length(details: ErrorDetails, field: FieldInfo | None) -> tuple[str, str]:
    limits = details["ctx"]
    unit = "character" if details["type"].startswith("string") else "item"
    if "max_length" in limits:
        return f"must have at most {limits['max_length']} {unit}s", "shorten it"
    fewest = limits["min_length"]
    return f"must have at least {fewest} {unit}{'s' if fewest > 1 else ''}", "add what is missing, or remove the key"


def _value(details: ErrorDetails, field: FieldInfo | None) -> tuple[str, str]:
    message = str(details["ctx"]["error"])
    fixes = (fix for start, fix in _VALUE_FIXES.items() if message.startswith(start))
    return message, next(fixes, "change the values so that this holds")


def _other(details: ErrorDetails, field: FieldInfo | None) -> tuple[str, str]:
    return f"{details['msg']}, got {shown(details['input'])}", "correct the value"


_SENTENCES: Mapping[str, Sentence] = {
    "date_type": _DAY,
    "date_parsing": _DAY,
    "date_from_datetime_parsing": _DAY,
    "date_from_datetime_inexact": _DAY,
    "missing": _missing,
    "string_type": _wrong_type("text", "put the value in quotes"),
    "int_type": _number("a whole number"),
    "float_type": _number("a number"),
    "finite_number": _number("a finite number"),
    "bool_type": _wrong_type("true or false", "write true or false, without quotes"),
    "tuple_type": _wrong_type("a list", "write it in square brackets, such as [ ... ]"),
    "model_type": _wrong_type("a table", "write its keys under a [header] or in { ... }"),
    "enum": _enum,
    "literal_error": _enum,
    "greater_than": _bound(">", "gt"),
    "greater_than_equal": _bound(">=", "ge"),
    "less_than": _bound("<", "lt"),
    "less_than_equal": _bound("<=", "le"),
    "string_pattern_mismatch": _pattern,
    "string_too_short": _length,
    "string_too_long": _length,
    "too_short": _length,
    "too_long": _length,
    "value_error": _value,
}


def _range_fix(field: FieldInfo | None, expected: str) -> str:
    low, high = _limits(field)
    kind = "a whole number" if expected == "a whole number" or _is_whole(field) else "a number"
    if low and high:
        return f"give {kind} {low} to {high}"
    return f"give {kind} {low or high}".rstrip() + ", without quotes"


def _limits(field: FieldInfo | None) -> tuple[str, str]:
    low, high = "", ""
    for limit in field.metadata if field else ():
        if isinstance(limit, Ge):
            low = f"from {_plain(limit.ge)}"
        elif isinstance(limit, Gt):
            low = f"above {_plain(limit.gt)}"
        elif isinstance(limit, Le):
            high = _plain(limit.le)
        elif isinstance(limit, Lt):
            high = f"under {_plain(limit.lt)}"
    return low, high


def _plain(number: Any) -> str:
    return f"{number:g}" if isinstance(number, float) else str(number)


def _is_whole(field: FieldInfo | None) -> bool:
    return field is not None and int in (field.annotation, *get_args(field.annotation))


def _field(model: type[BaseModel], path: Path) -> FieldInfo | None:
    keys = [step for step in path if isinstance(step, str)]
    parent = _model_at(model, tuple(keys[:-1]))
    if parent is None or not keys:
        return None
    return next((field for name, field in parent.model_fields.items() if keys[-1] in (name, field.alias)), None)


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The model whose keys stand under a path; indices into lists of tables do not count as steps."""
    current: type[BaseModel] | None = model
    for step in path:
        if isinstance(step, str):
            field = _field(current, (step,)) if current else None
            current = _inner_model(field.annotation) if field else None
    return current


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (tuple, Union, types.UnionType):
        found = (_inner_model(part) for part in get_args(annotation))
        return next((inner for inner in found if inner), None)
    return None
