"""What is wrong with a policy or catalogue file, and how to mend it; knows no TOML and no pydantic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: the file's name, its line (1-based, None where there is none), key path, what is wrong, the fix."""

    file: str
    line: int | None
    path: str
    message: str
    fix: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        what = f"{self.path}: {self.message}" if self.path else self.message
        return f"{where}: {what.rstrip('.')}. Fix: {self.fix.rstrip('.')}."


class PolicyError(Exception):
    """A policy or catalogue cannot be used; carries every problem found, and prints one a line.

    A plain sentence may stand in for problems where no file is at fault.
    """

    def __init__(self, problems: Iterable[Problem] | str) -> None:
        self.problems = () if isinstance(problems, str) else tuple(problems)
        super().__init__(problems if isinstance(problems, str) else "\n".join(map(str, self.problems)))
