"""Reads the few labelled outcomes that a new model or task comes with: a data folder, or one table of outcomes."""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from routers.decision import FEATURES_VERSION
from routers.training.cards import JSON_FILE, TOML_FILE
from routers.training.cells import identifiers, texts
from routers.training.dataset import Dataset, Embed
from routers.training.errors import DataError
from routers.training.read import read_folder
from routers.training.tables import Table, read_table, read_table_file
from routers.training.vectors import FILE, load_vectors

# Columns of the table that are read, by the names that they have in outcomes.
_ALIASES = {"tokens": "output_tokens", "cost": "cost_usd"}
_OUTCOMES = ("query_id", "model", "score", "input_tokens", "output_tokens", "cost_usd", "latency_s")


@dataclass(frozen=True, slots=True)
class _Query:
    """What is known of a query; `origin` is the folder that has it as it stands here."""

    text: str
    context: str
    origin: Path | None = None


def read_labels(path: Path, beside: Path, embed: Embed, embedder: str, others: Sequence[Path] = ()) -> Dataset:
    """Outcomes of a folder like any other, or of a table with query_id, model, score and at best text, tokens, cost.

    Such a table's models are those of the folder `beside`. What it does not say of its queries (text, context, vector)
    is looked up by query id there, then in the `others`. Raises `DataError` naming file, row and field.
    """
    if path.is_dir():
        return read_folder(path, embed, embedder, least_queries=1, least_models=1)
    if not path.is_file():
        raise DataError(f"{path} is neither a folder nor a file", fix="name the table or folder of labelled outcomes")
    table = read_table_file(path)
    table.require("query_id", "model", "score")
    with tempfile.TemporaryDirectory(prefix="labels-") as made:
        folder = Path(made)
        queries = _queries(table, (beside, *others))
        _write_outcomes(folder, table)
        rows = [(one, query.text, query.context) for one, query in queries.items()]
        _write(folder / "queries.csv", ["query_id", "text", "context"], list(zip(*rows, strict=True)))
        _write_vectors(folder, queries, embedder)
        for name in (JSON_FILE, TOML_FILE):
            if (beside / name).is_file():
                shutil.copyfile(beside / name, folder / name)
        try:
            return read_folder(folder, embed, embedder, least_queries=1, least_models=1)
        except DataError as error:
            # Its rows are those of the table, which has another name.
            file = path.name if error.file.startswith("outcomes") else error.file
            raise DataError(error.what, file=file, row=error.row, field=error.field, fix=error.fix) from error


def _queries(table: Table, folders: Sequence[Path]) -> dict[str, _Query]:
    """The table's queries by id: its own, or those of the first folder that has the same."""
    own: dict[str, _Query] = {}
    for one, text, context in zip(
        identifiers(table, "query_id"), texts(table, "text"), texts(table, "context"), strict=True
    ):
        if text or one not in own:
            own[one] = _Query(text, context)
    known = [(folder, _known(folder)) for folder in folders]
    return {one: _completed(one, query, known) for one, query in own.items()}


def _known(folder: Path) -> dict[str, _Query]:
    queries = read_table(folder, "queries")
    queries.require("query_id")
    parts = zip(identifiers(queries, "query_id"), texts(queries, "text"), texts(queries, "context"), strict=True)
    return {one: _Query(text, context) for one, text, context in parts}


def _completed(one: str, query: _Query, known: Sequence[tuple[Path, Mapping[str, _Query]]]) -> _Query:
    """A folder's query where the table says nothing else of it; two queries may have one id in two folders."""
    for folder, queries in known:
        found = queries.get(one)
        if found and query.text in ("", found.text) and query.context in ("", found.context):
            return _Query(found.text, found.context, folder)
    return query


def _write_outcomes(folder: Path, table: Table) -> None:
    columns = {_ALIASES.get(name, name): values for name, values in table.columns.items()}
    names = [name for name in _OUTCOMES if name in columns]
    _write(folder / "outcomes.csv", names, [columns[name] for name in names])


def _write_vectors(folder: Path, queries: Mapping[str, _Query], embedder: str) -> None:
    """The folders' vectors of queries that are theirs, to the bit: where texts were not kept, questions go by them."""
    found: dict[str, list[Any]] = {name: [] for name in ("query_ids", "embeddings", "facts", "tokens")}
    for origin in dict.fromkeys(query.origin for query in queries.values() if query.origin):
        checked = load_vectors(origin)
        if checked is None or checked.embedder != embedder:
            continue
        ours = [one in queries and queries[one].origin == origin for one in checked.query_ids]
        with np.load(origin / FILE, allow_pickle=False) as stored:
            for name, rows in found.items():
                rows.append(stored[name][ours])
    if any(map(len, found["query_ids"])):
        arrays: dict[str, Any] = {name: np.concatenate(rows) for name, rows in found.items()}
        np.savez(folder / FILE, **arrays, embedder=np.array(embedder), features_version=np.array(FEATURES_VERSION))


def _write(file: Path, names: list[str], columns: list[Any]) -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(names)
        writer.writerows(["" if cell is None else cell for cell in row] for row in zip(*columns, strict=True))
