"""Reads a folder of outcomes into a `Dataset`: queries, outcomes and models, as docs/data.md describes them."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from policies.catalogue import ModelCard
from routers.features import estimate_tokens, has_code
from routers.inputs import Inputs, facts_of
from routers.training.dataset import Dataset, Embed

_SPACES = re.compile(r"\W+")
_CONTEXT_TOKENS = 131_072


def read_folder(folder: Path, embed: Embed, embedder: str) -> Dataset:
    """Read `queries.csv(.gz)`, `outcomes.csv(.gz)` and `models.json`; raises `DataError` naming row and field."""
    cards = [_card(row) for row in json.loads((folder / "models.json").read_text())]
    queries = list(_rows(folder / "queries.csv.gz"))
    column = {card.id: place for place, card in enumerate(cards)}
    row = {one["query_id"]: place for place, one in enumerate(queries)}
    shape = (len(queries), len(cards))
    score, given, written, latency = (np.full(shape, np.nan, dtype=np.float32) for _ in range(4))
    cost = np.full(shape, np.nan)
    for one in _rows(folder / "outcomes.csv.gz"):
        place = row[one["query_id"]], column[one["model"]]
        score[place] = float(one["score"])
        given[place] = float(one["input_tokens"] or "nan")
        written[place] = float(one["output_tokens"] or "nan")
        cost[place] = float(one["cost_usd"] or "nan")
        latency[place] = float(one.get("latency_s") or "nan")
    texts = [one["text"] + ("\n" + one["context"] if one.get("context") else "") for one in queries]
    groups: dict[str, int] = {}
    return Dataset(
        name=folder.name,
        query_ids=tuple(row),
        texts=tuple(texts),
        tasks=tuple(one["task"] for one in queries),
        groups=np.array([groups.setdefault(_stem(one["text"]), len(groups)) for one in queries], dtype=np.intp),
        inputs=_inputs(texts, [bool(one.get("context")) for one in queries], embed),
        embedder=embedder,
        models=tuple(cards),
        score=score,
        input_tokens=given,
        output_tokens=written,
        cost_usd=cost,
        latency_s=latency,
    )


def _inputs(texts: list[str], tools: list[bool], embed: Embed) -> Inputs:
    tokens = [estimate_tokens(text) for text in texts]
    facts = [
        facts_of(text, count, has_code(text), used) for text, count, used in zip(texts, tokens, tools, strict=True)
    ]
    return Inputs(embed(texts), np.array(tokens, dtype=np.float32), np.array(facts, dtype=np.float32))


def _stem(text: str) -> str:
    """A question without its options, case and spacing."""
    return _SPACES.sub(" ", text.split("\nA", maxsplit=1)[0].lower()).strip()


def _card(row: dict[str, Any]) -> ModelCard:
    return ModelCard(
        id=str(row["id"]),
        context_tokens=_CONTEXT_TOKENS,
        price_in_usd_per_mtok=row.get("price_in"),
        price_out_usd_per_mtok=row.get("price_out"),
        description=str(row.get("description") or ""),
        organisation=str(row.get("org") or ""),
        family=str(row.get("family") or ""),
        base_model=str(row.get("base_model") or ""),
        params_b=row.get("params_b"),
        active_params_b=row.get("active_params_b"),
        open_weights=row.get("open_weights"),
        tuning=str(row.get("tuning") or ""),
        release=str(row.get("release") or ""),
    )


def _rows(file: Path) -> Iterator[dict[str, str]]:
    with gzip.open(file, "rt", newline="", encoding="utf-8") as lines:
        yield from csv.DictReader(lines)
