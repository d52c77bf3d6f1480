"""The outcomes table of a data folder as matrices [queries, models]; knows no text and no embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from policies.catalogue import ModelCard
from routers.training.cells import identifiers, numbers
from routers.training.dataset import Doubles, Floats, Indices
from routers.training.errors import DataError, shown
from routers.training.tables import Table, read_table

_COLUMNS: Final = frozenset(
    {"query_id", "model", "score", "input_tokens", "output_tokens", "cost_usd", "latency_s", "propensity"}
)
_MOST_NAMED: Final = 5
_UNPRICED: Final = "no price is known of {}: calls whose cost is not told either count as the dearest"


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Matrices [Q, M] as in `Dataset`, and what is odd about them."""

    score: Floats
    input_tokens: Floats
    output_tokens: Floats
    cost_usd: Doubles
    latency_s: Floats
    propensity: Floats | None
    notes: tuple[str, ...]


def read_outcomes(folder: Path, queries: Mapping[str, int], cards: Sequence[ModelCard]) -> Outcomes:
    """What was observed; raises `DataError` naming row and field. `queries` are ids with their rows."""
    table = read_table(folder, "outcomes")
    table.require("query_id", "model", "score")
    models = {card.id: place for place, card in enumerate(cards)}
    rows = _places(table, "query_id", queries, "is no query of the queries table")
    columns = _places(table, "model", models, "is no model of the models file")
    _refuse_repeats(table, rows * len(cards) + columns)
    shape = (len(queries), len(cards))

    def spread(values: Doubles) -> Doubles:
        matrix = np.full(shape, np.nan)
        matrix[rows, columns] = values
        return matrix

    def narrow(field: str, high: float = np.inf, above: float = -np.inf) -> Floats:
        return spread(numbers(table, field, high=high, above=above)).astype(np.float32)

    score, given, written = narrow("score", high=1), narrow("input_tokens"), narrow("output_tokens")
    told = spread(numbers(table, "cost_usd"))
    cost = np.where(np.isnan(told), _computed(cards, given, written), told)
    notes = _notes(table, cards, score, int((np.isnan(told) & ~np.isnan(cost)).sum()), len(table))
    logged = narrow("propensity", high=1, above=0) if "propensity" in table.columns else None
    return Outcomes(score, given, written, cost, narrow("latency_s"), logged, notes)


def _places(table: Table, field: str, known: Mapping[str, int], what: str) -> Indices:
    found = identifiers(table, field)
    try:
        return np.fromiter(map(known.__getitem__, found), dtype=np.intp, count=len(found))
    except KeyError:
        place = next(place for place, one in enumerate(found) if one not in known)
        raise table.fault(place, field, f"{shown(found[place])} {what}", "add it there, or remove this row") from None


def _refuse_repeats(table: Table, pairs: Indices) -> None:
    """A model has one outcome for a query; averaging silently would hide a mistake."""
    _, firsts = np.unique(pairs, return_index=True)
    if len(firsts) == len(pairs):
        return
    repeated = np.ones(len(pairs), dtype=bool)
    repeated[firsts] = False
    place = int(repeated.argmax())
    first = int((pairs == pairs[place]).argmax())
    pair = f"{shown(table.columns['query_id'][place])} and {shown(table.columns['model'][place])}"
    what = f"{pair} stand in row {table.rows[first]} already"
    raise table.fault(place, "query_id, model", what, "keep one row of each query and model, such as their mean")


def _computed(cards: Sequence[ModelCard], given: Floats, written: Floats) -> Doubles:
    """What a call costs at its card's price, in USD; NaN where tokens or price are not known."""
    unknown = float("nan")
    read = [unknown if card.price_in_usd_per_mtok is None else card.price_in_usd_per_mtok for card in cards]
    wrote = [unknown if card.price_out_usd_per_mtok is None else card.price_out_usd_per_mtok for card in cards]
    total = given.astype(np.float64) * np.array(read) + written.astype(np.float64) * np.array(wrote)
    return np.asarray(total / 1e6, dtype=np.float64)


def _notes(table: Table, cards: Sequence[ModelCard], score: Floats, computed: int, count: int) -> tuple[str, ...]:
    judged = ~np.isnan(score)
    prices = [(card.price_in_usd_per_mtok, card.price_out_usd_per_mtok) for card in cards]
    unjudged = count - int(judged.sum())
    unused = sorted(set(table.columns) - _COLUMNS)
    found = (
        _named(_UNPRICED, cards, [None in pair for pair in prices]),
        _named("the price of {} is 0", cards, [pair == (0, 0) for pair in prices]),
        _named("{} have no score yet", cards, np.asarray(~judged.any(axis=0)).tolist()),
        f"{unjudged} of {count} outcomes have no score" if unjudged else "",
        f"the cost of {computed} outcomes is computed from tokens and prices" if computed else "",
        f"{table.file}: columns that are not used: {', '.join(unused)}" if unused else "",
    )
    return tuple(filter(None, found))


def _named(sentence: str, cards: Sequence[ModelCard], chosen: Sequence[bool]) -> str:
    ids = [card.id for card, one in zip(cards, chosen, strict=True) if one]
    more = f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else ""
    return sentence.format(", ".join(ids[:_MOST_NAMED]) + more) if ids else ""


def refuse_too_few(score: Floats, cards: Sequence[ModelCard], least_queries: int, least_models: int) -> None:
    """Raise `DataError` unless so many queries and models have a score."""
    judged = ~np.isnan(score)
    seen = np.asarray(judged.any(axis=0)).tolist()
    models, queries = sum(seen), int(judged.any(axis=1).sum())
    if models < least_models:
        one = next((card.id for card, has in zip(cards, seen, strict=True) if has), "none")
        what = f"only {models} of the models has a score ({one}), at least {least_models} are needed"
        raise DataError(what, file="outcomes", fix="add outcomes of other models: with one there is nothing to choose")
    if queries < least_queries:
        what = f"only {queries} queries have a score, at least {least_queries} are needed"
        raise DataError(what, file="outcomes", fix="add outcomes of more queries")
