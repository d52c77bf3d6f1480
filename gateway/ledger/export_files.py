"""The files of an exported folder: tables that are written row by row, and a folder that appears whole."""

from __future__ import annotations

import csv
import gzip
import io
import shutil
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from routers.training.cards import JSON_FILE
from routers.training.vectors import FILE

QUERIES: Final = ("queries.csv.gz", ("query_id", "task", "text", "at"))
OUTCOMES: Final = (
    "outcomes.csv.gz",
    ("query_id", "model", "score", "input_tokens", "output_tokens", "cost_usd", "latency_s", "propensity"),
)
MANIFEST: Final = "export.json"
_OURS: Final = frozenset({QUERIES[0], OUTCOMES[0], JSON_FILE, FILE, MANIFEST})


class ExportError(ValueError):
    """An export that can't be made; the message says why and what to do."""


class Tables:
    """The two tables of a folder, open for writing."""

    def __init__(self, folder: Path) -> None:
        self._open: list[IO[Any]] = []
        self._queries = self._writer(folder, *QUERIES)
        self._outcomes = self._writer(folder, *OUTCOMES)

    def query(self, query_id: str, task: str | None, text: str, at: float) -> None:
        """A row of queries."""
        self._queries.writerow((query_id, task or "", text, at))

    def outcome(self, row: tuple[object, ...]) -> None:
        """A row of outcomes, in the order of `OUTCOMES`."""
        self._outcomes.writerow(row)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in reversed(self._open):
            one.close()

    def _writer(self, folder: Path, name: str, header: tuple[str, ...]) -> Any:
        raw = (folder / name).open("wb")
        # Neither name nor time inside: the same rows make the same file.
        packed = gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0)
        text = io.TextIOWrapper(packed, encoding="utf-8", errors="replace", newline="")
        self._open += [raw, text]
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        return writer


def refuse_taken(out: Path, force: bool) -> None:
    """Raise `ExportError` unless nothing would be lost at `out` but, by `force`, an older export."""
    if not out.exists() and not out.is_symlink():
        return
    if out.is_symlink() or not out.is_dir():
        raise ExportError(f"{out} is not a folder: name another place")
    held = {file.name for file in out.iterdir()}
    if held - _OURS:
        strange = ", ".join(sorted(held - _OURS)[:3])
        raise ExportError(f"{out} holds files that no export writes ({strange}): name another place")
    if held and not force:
        raise ExportError(f"{out} holds an export already: name another place, or give --force to replace it")


def put_in_place(made: Path, out: Path, force: bool) -> None:
    """Let the folder `made` appear as `out`, in place of an older export."""
    refuse_taken(out, force)
    if not out.exists():
        made.rename(out)
        return
    old = made.with_name(f"{made.name}-old")
    out.rename(old)
    try:
        made.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old)
