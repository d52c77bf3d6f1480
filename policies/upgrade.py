"""Lifts the body of an older policy file to today's schema, one pure function a step; knows no files.

Each step takes a body of its schema and returns a new one of the next; schema 1 is the first, so there is none yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from policies.schema import SCHEMA_VERSION

Body = Mapping[str, Any]
Step = Callable[[Body], dict[str, Any]]

STEPS: Mapping[int, Step] = {}


class SchemaVersionError(ValueError):
    """The body's `schema` cannot be used; `fix` says what to do."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


def upgrade(body: Body, steps: Mapping[int, Step] = STEPS, target: int = SCHEMA_VERSION) -> dict[str, Any]:
    """A new body of schema `target`; the one given is left as it was. Raises `SchemaVersionError`."""
    version = _version(body, target)
    lifted = dict(body)
    while version < target:
        if version not in steps:
            raise SchemaVersionError(
                f"schema {version} can no longer be read", f"rewrite the file for schema = {target}"
            )
        lifted = dict(steps[version](lifted))
        version += 1
        lifted["schema"] = version
    return lifted


def _version(body: Body, target: int) -> int:
    if "schema" not in body:
        raise SchemaVersionError("is missing", f"add the line schema = {target} at the top of the file")
    version = body["schema"]
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise SchemaVersionError(f"must be a whole number from 1, got {version!r}", f"write schema = {target}")
    if version > target:
        raise SchemaVersionError(
            f"is {version}, but this Fingerpost reads schemas up to {target}",
            f"upgrade Fingerpost, or rewrite the file for schema = {target}",
        )
    return version
