"""Small folders of outcomes for tests, sound until a test spoils a part."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from routers.training.dataset import Floats

Rows = list[list[Any]]
QUERIES = ["query_id", "task", "text"]
OUTCOMES = ["query_id", "model", "score", "input_tokens", "output_tokens", "cost_usd", "latency_s"]
CARDS: list[dict[str, Any]] = [
    {"id": "small", "org": "acme", "params_b": 3, "price_in": 0.1, "price_out": 0.2, "price_source": "list"},
    {"id": "large", "org": "acme", "params_b": 70, "price_in": 1, "price_out": 2, "release": "2024-07"},
]


def queries(count: int = 12) -> Rows:
    """Rows of the queries table."""
    return [[f"q{number}", "sums" if number % 2 else "words", f"What is {number} and one?"] for number in range(count)]


def outcomes(count: int = 12) -> Rows:
    """Rows of the outcomes table, all pairs."""
    return [
        [f"q{number}", card["id"], float((number + place) % 2), 10, 20 + number, 0.001 * (place + 1), 0.5]
        for number in range(count)
        for place, card in enumerate(CARDS)
    ]


def as_csv(header: Sequence[str], rows: Rows) -> bytes:
    """A table as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([header, *rows])
    return out.getvalue().encode()


def as_jsonl(header: Sequence[str], rows: Rows) -> bytes:
    """A table as JSON lines."""
    return "".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows).encode()


def write(folder: Path, **parts: Any) -> Path:
    """A folder in CSV and JSON; `queries`, `outcomes` and `cards` replace the sound ones."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "queries.csv").write_bytes(as_csv(QUERIES, parts.get("queries", queries())))
    (folder / "outcomes.csv").write_bytes(as_csv(OUTCOMES, parts.get("outcomes", outcomes())))
    (folder / "models.json").write_text(json.dumps(parts.get("cards", CARDS)))
    return folder


def embed(texts: Sequence[str]) -> Floats:
    """Unit vectors of length 4 that differ with a text's length."""
    angles = np.array([len(text) for text in texts], dtype=np.float32)
    zeros = np.zeros_like(angles)
    return np.stack([np.cos(angles), np.sin(angles), zeros, zeros], axis=1)
