"""What each row of labelled streams is about, told by a classifier that never saw its answers, and one that saw all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gateway.cache.classes import ClassesModel, marks
from gateway.cache.learner import Groups, Stream
from gateway.cache.replay import StreamRow
from gateway.cache.semantic import Entry
from routers.training.cache_classes import crossed, fit_classes


@dataclass(frozen=True, slots=True)
class TaughtClasses:
    """`model` saw every row; `topics` [rows of all streams] are out of fold."""

    model: ClassesModel
    topics: list[str]


def teach(streams: Sequence[Stream], folds: Groups, embedder: str) -> TaughtClasses | None:
    """Categories in which no answer repeats teach nothing: they are what nobody asks again, and about anything.

    None where fewer than two are left: there is nothing to tell apart.
    """
    rows = [row for stream in streams for row in stream.rows]
    names = [row.category for row in rows]
    vectors = np.concatenate([stream.vectors for stream in streams])
    inputs = np.concatenate([vectors, np.array([marks(row.query) for row in rows], dtype=np.float32)], axis=1)
    repeated = repeating(rows)
    if len(repeated) < 2:
        return None
    teaches = np.array([name in repeated for name in names], dtype=np.bool_)
    taught = fit_classes(inputs[teaches], [name for name in names if name in repeated])
    topics = crossed(inputs, names, folds, teaches)
    return TaughtClasses(ClassesModel(taught.names, embedder, taught.weights), topics)


def repeating(rows: Sequence[StreamRow]) -> set[str]:
    """The categories in which some answer is asked for twice."""
    seen: set[tuple[str, str]] = set()
    found = set()
    for row in rows:
        if (row.category, row.answer_id) in seen:
            found.add(row.category)
        seen.add((row.category, row.answer_id))
    return found


def served(
    rows: Sequence[StreamRow], asked: Sequence[Entry], topics: Sequence[str]
) -> tuple[list[StreamRow], list[Entry]]:
    """Rows as the gateway takes them: of the category that is told, not of the one that the stream gives."""
    told = list(zip(rows, asked, topics, strict=True))
    return (
        [replace(row, category=topic) for row, _, topic in told],
        [replace(entry, category=topic) for _, entry, topic in told],
    )


def confusion(given: Sequence[str], told: Sequence[str]) -> dict[str, dict[str, int]]:
    """Of each given category how many rows were told to be of which."""
    found: dict[str, dict[str, int]] = {}
    for ours, theirs in zip(given, told, strict=True):
        of = found.setdefault(ours, {})
        of[theirs] = of.get(theirs, 0) + 1
    return found
