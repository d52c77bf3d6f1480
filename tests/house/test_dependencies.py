"""Every dependency has its reason in a decision record, and no reason outlives its dependency."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from typing import Any

from tests.house.source import ROOT, report

RECORDS = ROOT / "docs" / "decisions"
STACK = RECORDS / "0001-stack-and-dependencies.md"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# A reason is a table row or list item that begins with the name in backquotes.
REASON = re.compile(r"^(?:\||-) *`([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?` *(?:\||:|—)? *\S", re.MULTILINE)


def declared(project: dict[str, Any]) -> set[str]:
    """Names of all dependencies, required and optional."""
    lists: list[list[str]] = [project["dependencies"], *project.get("optional-dependencies", {}).values()]
    return {NAME.match(one).group().lower() for requirements in lists for one in requirements}  # type: ignore[union-attr]


def reasons(texts: Iterable[str]) -> set[str]:
    """Names that have a line with a reason."""
    return {name.lower() for text in texts for name in REASON.findall(text)}


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def test_every_dependency_has_a_reason() -> None:
    found = sorted(declared(_project()) - reasons(path.read_text(encoding="utf-8") for path in RECORDS.glob("*.md")))

    assert not found, report(found)


def test_no_reason_is_given_for_what_is_not_used() -> None:
    found = sorted(reasons([STACK.read_text(encoding="utf-8")]) - declared(_project()))

    assert not found, report(found)


def test_a_dependency_without_reason_is_found() -> None:
    project = {"dependencies": ["aiohttp>=3", "sqlalchemy[asyncio]>=2"], "optional-dependencies": {"dev": ["ruff"]}}
    text = "| `aiohttp` | upstream calls |\n- `sqlalchemy[asyncio]`: the ledger\nruff is mentioned in passing: `ruff`\n"

    assert declared(project) - reasons([text]) == {"ruff"}
