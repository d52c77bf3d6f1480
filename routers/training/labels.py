"""Reads the few labelled outcomes that a new model or task comes with: a data folder, or one table of outcomes."""

from __future__ import annotations

import csv
import shutil
import tempfile
from pathlib import Path
from typing import Any

from routers.training.cards import JSON_FILE, TOML_FILE
from routers.training.dataset import Dataset, Embed
from routers.training.errors import DataError
from routers.training.read import read_folder
from routers.training.tables import Table, read_table

# Columns of the table that are read, by the names that they have in outcomes.
_ALIASES = {"tokens": "output_tokens", "cost": "cost_usd"}
_OUTCOMES = ("query_id", "model", "score", "input_tokens", "output_tokens", "cost_usd", "latency_s")


def read_labels(path: Path, beside: Path, embed: Embed, embedder: str) -> Dataset:
    """Outcomes of a folder like any other, or of a table with query_id, model, score and at best text, tokens, cost.

    Such a table's models are those of the folder `beside`, whose queries also give the texts that it lacks. Raises
    `DataError` naming file, row and field.
    """
    if path.is_dir():
        return read_folder(path, embed, embedder, least_queries=1, least_models=1)
    if not path.is_file():
        raise DataError(f"{path} is neither a folder nor a file", fix="name the table or folder of labelled outcomes")
    table = read_table(path.parent, path.name.split(".", 1)[0])
    table.require("query_id", "model", "score")
    with tempfile.TemporaryDirectory(prefix="labels-") as made:
        folder = Path(made)
        _write_outcomes(folder, table)
        _write_queries(folder, table, beside)
        for name in (JSON_FILE, TOML_FILE):
            if (beside / name).is_file():
                shutil.copyfile(beside / name, folder / name)
        try:
            return read_folder(folder, embed, embedder, least_queries=1, least_models=1)
        except DataError as error:
            # Its rows are those of the table, which has another name.
            file = path.name if error.file.startswith("outcomes") else error.file
            raise DataError(error.what, file=file, row=error.row, field=error.field, fix=error.fix) from error


def _write_outcomes(folder: Path, table: Table) -> None:
    columns = {_ALIASES.get(name, name): values for name, values in table.columns.items()}
    names = [name for name in _OUTCOMES if name in columns]
    _write(folder / "outcomes.csv", names, [columns[name] for name in names])


def _write_queries(folder: Path, table: Table, beside: Path) -> None:
    known = _column(table, "text"), _column(table, "context")
    texts: dict[str, tuple[Any, Any]] = {}
    for query_id, text, context in zip(table.columns["query_id"], *known, strict=True):
        if text or query_id not in texts:
            texts[query_id] = (text, context)
    if not all(text for text, _ in texts.values()):
        queries = read_table(beside, "queries")
        theirs = zip(queries.columns["query_id"], _column(queries, "text"), _column(queries, "context"), strict=True)
        others = {query_id: (text, context) for query_id, text, context in theirs}
        texts = {one: pair if pair[0] else others.get(one, pair) for one, pair in texts.items()}
    rows = [(one, text, context) for one, (text, context) in texts.items()]
    _write(folder / "queries.csv", ["query_id", "text", "context"], list(zip(*rows, strict=True)))


def _column(table: Table, name: str) -> list[Any]:
    return table.columns.get(name) or [""] * len(table)


def _write(file: Path, names: list[str], columns: list[Any]) -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(names)
        writer.writerows(["" if cell is None else cell for cell in row] for row in zip(*columns, strict=True))
