"""Reads a folder of outcomes into a `Dataset`: queries, outcomes and models, as docs/data.md describes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from routers.features import estimate_tokens, has_code
from routers.inputs import FACTS, Inputs, facts_of
from routers.training.cards import read_cards
from routers.training.cells import texts, unique_identifiers
from routers.training.dataset import Dataset, Embed, Floats, Indices
from routers.training.errors import DataError
from routers.training.outcomes import read_outcomes, refuse_too_few
from routers.training.stems import number_of, question_number
from routers.training.tables import read_table
from routers.training.vectors import FILE, Vectors, load_vectors

LEAST_QUERIES: Final = 10
LEAST_MODELS: Final = 2
NO_TASK: Final = "unlabelled"


@dataclass(frozen=True, slots=True, eq=False)
class _Queries:
    """What queries.* says: `texts` with their context behind them, '' where only a vector is known.

    `vectors` [Q] are places in embeddings.npz, -1 where it has nothing.
    """

    ids: dict[str, int]
    texts: list[str]
    tasks: list[str]
    groups: Indices
    tools: list[bool]
    vectors: Indices


def read_folder(
    folder: Path,
    embed: Embed,
    embedder: str,
    *,
    least_queries: int = LEAST_QUERIES,
    least_models: int = LEAST_MODELS,
    unjudged: bool = False,
) -> Dataset:
    """The folder's outcomes; raises `DataError` naming file, row and field.

    Queries without any score are left out unless `unjudged`. Texts that have no vector of this embedder in
    embeddings.npz are embedded. Fewer judged queries or models than the least are refused.
    """
    stored = load_vectors(folder)
    queries, cards = _queries(folder, stored), read_cards(folder)
    seen = read_outcomes(folder, queries.ids, cards)
    refuse_too_few(seen.score, cards, least_queries, least_models)
    inputs, note = _inputs(queries, stored, embed, embedder)
    found = Dataset(
        name=folder.resolve().name,
        query_ids=tuple(queries.ids),
        texts=tuple(queries.texts),
        tasks=tuple(queries.tasks),
        groups=queries.groups,
        inputs=inputs,
        embedder=embedder,
        models=tuple(cards),
        score=seen.score,
        input_tokens=seen.input_tokens,
        output_tokens=seen.output_tokens,
        cost_usd=seen.cost_usd,
        latency_s=seen.latency_s,
        propensity=seen.propensity,
        notes=(*seen.notes, *note),
    )
    return found if unjudged else _judged(found)


def inspect_folder(folder: Path, *, least_queries: int = LEAST_QUERIES, least_models: int = LEAST_MODELS) -> Dataset:
    """The same without an embedder, to see whether a folder can be used: texts without a vector get zeros."""
    stored = load_vectors(folder)
    width = stored.embeddings.shape[1] if stored else 1

    def zeros(wanted: Sequence[str]) -> Floats:
        return np.zeros((len(wanted), width), dtype=np.float32)

    embedder = stored.embedder if stored else "none"
    return read_folder(folder, zeros, embedder, least_queries=least_queries, least_models=least_models, unjudged=True)


def _judged(found: Dataset) -> Dataset:
    kept = np.asarray(found.observed.any(axis=1))
    if kept.all():
        return found
    note = f"{int((~kept).sum())} queries without any score are left out"
    return replace(found.rows(kept.nonzero()[0]), notes=(*found.notes, note))


def _queries(folder: Path, stored: Vectors | None) -> _Queries:
    table = read_table(folder, "queries")
    table.require("query_id", *(() if stored else ("text",)))
    ids = unique_identifiers(table, "query_id")
    plain, context = texts(table, "text"), texts(table, "context")
    known = {one: place for place, one in enumerate(stored.query_ids)} if stored else {}
    vectors = np.array([known.get(one, -1) for one in ids], dtype=np.intp)
    groups = np.empty(len(ids), dtype=np.intp)
    for place, text in enumerate(plain):
        if text.strip():
            groups[place] = question_number(text)
        elif stored is not None and vectors[place] >= 0:
            groups[place] = number_of(stored.embeddings[vectors[place]].tobytes())
        else:
            raise table.fault(place, "text", "is empty", "give the prompt, or remove the query and its outcomes")
    return _Queries(
        ids=ids,
        texts=[text + ("\n" + more if more else "") for text, more in zip(plain, context, strict=True)],
        tasks=[one or NO_TASK for one in texts(table, "task")],
        groups=groups,
        tools=[bool(one) for one in context],
        vectors=vectors,
    )


def _inputs(queries: _Queries, stored: Vectors | None, embed: Embed, embedder: str) -> tuple[Inputs, tuple[str, ...]]:
    """Embeddings, tokens and facts: as the gateway logged them where it did, else from the texts."""
    if stored is None:
        tokens, facts = _from_texts(queries, range(len(queries.texts)))
        return Inputs(_checked(embed(queries.texts), len(queries.texts)), tokens, facts), ()
    count, logged = len(queries.texts), queries.vectors >= 0
    usable = logged if stored.embedder == embedder else np.zeros(count, dtype=bool)
    _refuse_unknown(queries, usable, stored.embedder, embedder)
    wanted = [queries.texts[place] for place in (~usable).nonzero()[0]]
    fresh = _checked(embed(wanted), len(wanted)) if wanted else stored.embeddings[:0]
    if usable.any() and wanted and fresh.shape[1] != stored.embeddings.shape[1]:
        what = f"has vectors of {stored.embeddings.shape[1]} numbers, the embedder makes {fresh.shape[1]}"
        raise DataError(what, file=FILE, field="embeddings", fix="export the data again")
    embeddings = np.empty((count, (fresh if wanted else stored.embeddings).shape[1]), dtype=np.float32)
    embeddings[~usable] = fresh
    embeddings[usable] = stored.embeddings[queries.vectors[usable]]
    tokens, facts = np.full(count, np.nan, dtype=np.float32), np.full((count, len(FACTS)), np.nan, dtype=np.float32)
    tokens[logged], facts[logged] = stored.tokens[queries.vectors[logged]], stored.facts[queries.vectors[logged]]
    return _completed(queries, embeddings, tokens, facts)


def _completed(queries: _Queries, embeddings: Floats, tokens: Floats, facts: Floats) -> tuple[Inputs, tuple[str, ...]]:
    """What was not logged is read from the text; where there is none, the mean of the others stands for it."""
    told = [place for place, text in enumerate(queries.texts) if text]
    read_tokens, read_facts = _from_texts(queries, told)
    tokens[told] = np.where(np.isnan(tokens[told]), read_tokens, tokens[told])
    facts[told] = np.where(np.isnan(facts[told]), read_facts, facts[told])
    guessed = np.isnan(tokens) | np.isnan(facts).any(axis=1)
    note = f"{int(guessed.sum())} queries have neither text nor all facts: the others' means stand for what is missing"
    whole = np.column_stack((tokens, facts))
    known = ~np.isnan(whole)
    means = np.where(known, whole, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    whole = np.where(known, whole, means.astype(np.float32))
    return Inputs(embeddings, whole[:, 0].copy(), whole[:, 1:].copy()), (note,) if guessed.any() else ()


def _refuse_unknown(queries: _Queries, usable: npt.NDArray[np.bool_], stored: str, embedder: str) -> None:
    for place, text in enumerate(queries.texts):
        if not usable[place] and not text:
            one = list(queries.ids)[place]
            what = f"was made by embedder '{stored}', and query '{one}' has no text for '{embedder}'"
            fix = f"train with embedder '{stored}', or export the data with --texts"
            raise DataError(what, file=FILE, field="embedder", fix=fix)


def _from_texts(queries: _Queries, places: Sequence[int]) -> tuple[Floats, Floats]:
    """Tokens [n] and facts [n, len(FACTS)] of texts."""
    tokens = [estimate_tokens(queries.texts[place]) for place in places]
    facts = [
        facts_of(queries.texts[place], count, has_code(queries.texts[place]), queries.tools[place])
        for place, count in zip(places, tokens, strict=True)
    ]
    shape = (len(facts), len(FACTS))
    return np.array(tokens, dtype=np.float32), np.array(facts, dtype=np.float32).reshape(shape)


def _checked(vectors: Floats, count: int) -> Floats:
    """An embedder's own faults are not the data's: `ValueError` where it is not [count, D] of finite numbers."""
    found = np.asarray(vectors, dtype=np.float32)
    if found.ndim != 2 or len(found) != count or not np.isfinite(found).all():
        raise ValueError(f"the embedder made an array of shape {found.shape} with gaps, not ({count}, D) of numbers")
    return found
