"""Drives the real search over a labelled stream: what the cache would have served, request by request.

A hit serves, a miss inserts; two queries may share an answer iff their `answer_id` is equal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gateway.cache.parsed import Parsed
from gateway.cache.partition import Vector
from gateway.cache.semantic import Candidate, Entry, Judge, SemanticIndex, Thresholds
from gateway.cache.verifier import Doubles, Verifier


class StreamError(ValueError):
    """A stream file that can't be read, with its line."""


@dataclass(frozen=True, slots=True)
class StreamRow:
    """One request of a labelled stream."""

    id: int
    query: str
    category: str
    answer_id: str


@dataclass(frozen=True, slots=True)
class Decided:
    """What the cache did with a row; `answer_id` and `of` (the entry's row) stand for what it served."""

    id: int
    hit: bool
    answer_id: str | None = None
    of: int | None = None
    probability: float | None = None
    cosine: float | None = None


def read_stream(path: Path) -> list[StreamRow]:
    """The rows of a JSON Lines file; `StreamError` names the first line that is wrong."""
    rows = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                rows.append(_row(line, f"{path}:{number}"))
    if len({row.id for row in rows}) != len(rows):
        raise StreamError(f"{path}: two rows have one id")
    return rows


def _row(line: str, place: str) -> StreamRow:
    try:
        told: Any = json.loads(line)
        row = StreamRow(told["id"], told["query"], told["category"], told["answer_id"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StreamError(f"{place}: no row with id, query, category and answer_id ({error!r})") from error
    if not isinstance(row.id, int) or not all(isinstance(one, str) for one in (row.query, row.category, row.answer_id)):
        raise StreamError(f"{place}: id is a number; query, category and answer_id are texts")
    return row


def entries(rows: Sequence[StreamRow], vectors: Sequence[Vector], parse: Callable[[str], Parsed]) -> list[Entry]:
    """Each row as the search sees it; its key is its place in the stream."""
    return [
        Entry(str(place), row.category, parse(row.query), vector)
        for place, (row, vector) in enumerate(zip(rows, vectors, strict=True))
    ]


def judge_of(verifier: Verifier) -> Judge:
    """The verifier as the search asks it."""

    def judge(query: Entry, candidates: Sequence[Candidate], cosines: Vector) -> Doubles:
        told = [(candidate.parsed, candidate.category) for candidate in candidates]
        return verifier.probabilities(query.parsed, query.category, told, cosines)

    return judge


def replay(
    rows: Sequence[StreamRow], asked: Sequence[Entry], judge: Judge, thresholds: Thresholds
) -> Iterator[Decided]:
    """One decision a row, in order."""
    by_key = {query.key: row for row, query in zip(rows, asked, strict=True)}
    index = SemanticIndex(len(asked[0].vector) if asked else 1, judge)
    for row, query in zip(rows, asked, strict=True):
        matches = index.find(query, partial(thresholds.of, query.category))
        if not matches:
            index.add(query, query.vector)
            yield Decided(row.id, hit=False)
        else:
            match = matches[0]
            served = by_key[match.key]
            yield Decided(row.id, True, served.answer_id, served.id, match.probability, match.cosine)


def write_decisions(decisions: Iterable[Decided], path: Path) -> None:
    """One JSON object a line: id, hit and, of a hit, answer_id, of, probability, cosine."""
    with path.open("w", encoding="utf-8") as out:
        for one in decisions:
            told: dict[str, Any] = {"id": one.id, "hit": one.hit}
            if one.hit:
                told |= {"answer_id": one.answer_id, "of": one.of, "probability": one.probability, "cosine": one.cosine}
            out.write(json.dumps(told) + "\n")
