"""Faults that span rows of one file (repeated names, references to nothing), found in the raw body.

Works before validation, on values of any type, so that these faults are told together with all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from policies.explain import Fault, nearest
from policies.positions import Path

Body = Mapping[str, Any]


def catalogue_faults(body: Body) -> Iterator[Fault]:
    """Repeated model or endpoint ids, endpoints of a model that has no row."""
    yield from _repeats(body, ("model",), "id")
    yield from _repeats(body, ("endpoint",), "id")
    known = [row["id"] for _, row in _rows(body, ("model",)) if isinstance(row.get("id"), str)]
    for path, row in _rows(body, ("endpoint",)):
        model = row.get("model")
        if isinstance(model, str) and model not in known:
            fix = f'add a [[model]] row with id = "{model}"{_or_use(nearest(model, known))}'
            yield (*path, "model"), f"names model '{model}', which no [[model]] row defines", fix


def policy_faults(body: Body) -> Iterator[Fault]:
    """Repeated names, unknown categories, models that the policy itself does not allow, unusable patterns."""
    yield from _repeats(body, ("category",), "name")
    yield from _repeats(body, ("router", "rule"), "name")
    yield from _category_faults(body)
    yield from _pattern_faults(body)
    yield from _allowed_faults(body)


def _category_faults(body: Body) -> Iterator[Fault]:
    default = body.get("default_category", "general")
    known = [row["name"] for _, row in _rows(body, ("category",)) if isinstance(row.get("name"), str)]
    known += [default] if isinstance(default, str) else []
    for path, row in _rows(body, ("router", "rule")):
        for index, name in _texts(_get(row, ("when", "category"))):
            if name not in known:
                fix = f"add a [[category]] named '{name}'{_or_use(nearest(name, known))}"
                yield (*path, "when", "category", index), f"no category is named '{name}'", fix
    for path, row in _rows(body, ("category",)):
        if _get(row, ("when", "category")) is not None:
            message = "a category cannot be told by the category"
            yield (*path, "when", "category"), message, "test language, contains, code, tokens or tools instead"


def _pattern_faults(body: Body) -> Iterator[Fault]:
    if body.get("models") == []:
        yield ("models",), "allows no model at all", 'name some, or write models = ["*"] for all'
    lists: list[Path] = [("models",), *((*path, "prefer") for path, _ in _rows(body, ("router", "rule")))]
    lists += [(*path, "models") for path in _strategies(body)]
    for where in lists:
        for index, pattern in _texts(_get(body, where)):
            if not pattern.strip() or pattern != "".join(pattern.split()):
                message = f"'{pattern}' is no model id or pattern"
                yield (*where, index), message, "write an id such as 'gpt-5', or a pattern such as 'gpt-*'"
            elif pattern.count("[") != pattern.count("]"):
                yield (*where, index), f"'{pattern}' has an unclosed bracket", "close the [ ] or remove it"


def _allowed_faults(body: Body) -> Iterator[Fault]:
    patterns = [pattern for _, pattern in _texts(body.get("models", ["*"]))]
    named: list[tuple[Path, str]] = [
        (("fallback", "models", index), model) for index, model in _texts(_get(body, ("fallback", "models")))
    ]
    for path, row in _rows(body, ("router", "rule")):
        named += [((*path, "prefer", index), model) for index, model in _texts(row.get("prefer"))]
    for path in _strategies(body):
        named += [((*path, "models", index), model) for index, model in _texts(_get(body, (*path, "models")))]
        helpers = ((*path, key) for key in ("judge", "aggregator"))
        named += [(where, model) for where in helpers if isinstance(model := _get(body, where), str)]
    if isinstance(model := _get(body, ("router", "model")), str):
        named.append((("router", "model"), model))
    elif _get(body, ("router", "kind")) == "fixed":
        fix = "add the line model = \"...\" with the id of the model that router kind 'fixed' is to use"
        yield ("router", "model"), "is missing", fix
    for where, model in named:
        if not _is_pattern(model) and not any(fnmatchcase(model, pattern) for pattern in patterns):
            yield where, f"'{model}' is not allowed by this policy's models", f"add '{model}' to models, or remove it"


def _strategies(body: Body) -> list[Path]:
    """Where strategies may stand: the policy's own, and those of its categories."""
    return [("strategy",), *((*path, "strategy") for path, _ in _rows(body, ("category",)))]


def _repeats(body: Body, where: Path, key: str) -> Iterator[Fault]:
    seen: set[str] = set()
    fix = f"give every [[{'.'.join(map(str, where))}]] its own {key}"
    for path, row in _rows(body, where):
        value = row.get(key)
        if isinstance(value, str):
            if value in seen:
                yield (*path, key), f"'{value}' appears twice", fix
            seen.add(value)


def _rows(body: Body, where: Path) -> Iterator[tuple[Path, Body]]:
    found = _get(body, where)
    for index, row in enumerate(found if isinstance(found, list) else ()):
        if isinstance(row, Mapping):
            yield (*where, index), row


def _texts(value: Any) -> Iterator[tuple[int, str]]:
    for index, text in enumerate(value if isinstance(value, list) else ()):
        if isinstance(text, str):
            yield index, text


def _get(value: Any, where: Path) -> Any:
    for step in where:
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def _is_pattern(text: str) -> bool:
    return any(sign in text for sign in "*?[")


def _or_use(near: str | None) -> str:
    return f", or use '{near}'" if near else ""
