"""The keys of a policy that a form can change, in the TOML text itself: comments and order stay as they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import tomlkit
from tomlkit.exceptions import TOMLKitError

from gateway.errors import InvalidRequest
from gateway.ui.forms import lines_of


@dataclass(frozen=True, slots=True)
class Knob:
    """`path` in the text, what it is called, what it does, and the bounds of its box."""

    path: tuple[str, ...]
    label: str
    hint: str
    step: str = "any"
    least: str = "0"
    most: str | None = None

    @property
    def name(self) -> str:
        """The form field's."""
        return ".".join(self.path)


KNOBS: Final = (
    Knob(("objective", "quality"), "Weight of quality", "What forecast quality, 0 to 1, is worth."),
    Knob(("objective", "cost"), "Weight of cost", "What cost_scale_usd is worth."),
    Knob(("objective", "latency"), "Weight of latency", "What latency_scale_ms is worth."),
    Knob(("objective", "min_quality"), "Least quality", "Models forecast below it come last.", most="1"),
    Knob(("objective", "max_cost_usd"), "Highest forecast cost, $", "Of one answer; dearer models come last."),
    Knob(("exploration",), "Exploration", "Share of requests that try another model.", most="1"),
    Knob(("router", "confidence"), "Confidence", "How sure an advantage must be; 0.5 is off.", least="0.5", most="1"),
    Knob(("budget", "max_cost_usd_per_request"), "Most that a request may cost, $", "A hard bound."),
)
MODELS: Final = "models"


def values_of(text: str) -> dict[str, str]:
    """What the text says of these keys, as a form shows it; '' where it says nothing. Nothing where it is no TOML."""
    try:
        document = tomlkit.parse(text).unwrap()
    except TOMLKitError:
        return {}
    found = {knob.name: _shown(_at(document, knob.path)) for knob in KNOBS}
    models = document.get(MODELS)
    return found | {MODELS: "\n".join(map(str, models)) if isinstance(models, list) else ""}


def edited(text: str, form: Mapping[str, str]) -> str:
    """The text with these fields; an empty one takes its key away. `InvalidRequest` names what is no number."""
    try:
        document = tomlkit.parse(text)
    except TOMLKitError as error:
        raise InvalidRequest(f"The text is no TOML, so no field of it can be changed: {error}", param="toml") from error
    wanted: dict[tuple[str, ...], Any] = {
        knob.path: _number(knob.name, form[knob.name]) for knob in KNOBS if knob.name in form
    }
    if MODELS in form:
        wanted[(MODELS,)] = list(lines_of(form[MODELS])) or None
    fresh = [(path[0], value) for path, value in wanted.items() if not _put(document, path, value)]
    return _begun_with(tomlkit.dumps(document), fresh)


def _at(document: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = document
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _put(document: Any, path: tuple[str, ...], value: Any) -> bool:
    """False for a new key of the document itself, which must come to stand above its first table."""
    if _at(document.unwrap(), path) == value:
        return True
    if len(path) == 1 and path[0] not in document:
        return False
    table = document
    for key in path[:-1]:
        if key not in table:
            table[key] = tomlkit.table()
        table = table[key]
    if value is None:
        table.pop(path[-1], None)
    else:
        table[path[-1]] = value
    return True


def _begun_with(text: str, fresh: Sequence[tuple[str, Any]]) -> str:
    """New keys behind the last one that stands above all tables."""
    if not fresh:
        return text
    lines = text.splitlines(keepends=True)
    tables = (at for at, line in enumerate(lines) if line.lstrip().startswith("["))
    at = next(tables, len(lines))
    while at and (not lines[at - 1].strip() or lines[at - 1].lstrip().startswith("#")):
        at -= 1
    if at and not lines[at - 1].endswith("\n"):
        lines[at - 1] += "\n"
    made = [f"{key} = {tomlkit.item(value).as_string()}\n" for key, value in fresh]
    return "".join([*lines[:at], *made, *lines[at:]])


def _number(name: str, given: str) -> float | None:
    if not given.strip():
        return None
    try:
        return float(given)
    except ValueError:
        raise InvalidRequest(f"'{given[:40]}' is no number.", param=name) from None


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else ""
