"""What a kind learns from: a dataset's arrays, in an order that depends on their content and on nothing else.

Here the names of tasks end: a lesson has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from policies.catalogue import ModelCard
from routers.inputs import Inputs
from routers.training.dataset import Dataset, Doubles, Floats, Indices
from routers.training.means import fill
from routers.training.splits import by_group

VALIDATION_SHARE = 0.15
_BY_QUERY = ("score", "log_tokens", "cost_usd", "latency_s", "groups")


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """Outcomes of Q queries and M models, arrays [Q, M] with NaN where nothing was observed; `groups` [Q] number the
    questions."""

    cards: tuple[ModelCard, ...]
    inputs: Inputs
    score: Floats
    log_tokens: Floats
    cost_usd: Doubles
    latency_s: Floats
    groups: Indices

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(self, chosen: Indices) -> Lesson:
        """Some of the queries."""
        parts: dict[str, Any] = {name: getattr(self, name)[chosen] for name in _BY_QUERY}
        return replace(self, inputs=self.inputs.rows(chosen), **parts)

    def usual(self) -> Doubles:
        """Mean score of each model [M], see `fill`; that of all for one that was never scored, as in a part of sparse
        outcomes."""
        seen = ~np.isnan(self.score).all(axis=0)
        means, _ = fill(self.score.astype(np.float64))
        return np.where(seen, means, means[seen].mean() if seen.any() else 0.5)


def lessons(train: Dataset, validation: Dataset | None, seed: int) -> tuple[Lesson, Lesson, Lesson]:
    """What to fit on, what to tune on, and both together; models without any score are left out.

    Without `validation` a part of `train`'s questions is kept back for it; where there is one question only, the fit is
    tuned on what it was fitted on. `ValueError` says what can't be learned from.
    """
    _check(train)
    train = _sorted(train)
    if validation is not None and len(validation) == 0:
        validation = None
    if validation is None:
        first, second = _held_back(train, seed)
        train, validation = (train, train) if first is second else (train.rows(first), train.rows(second))
    else:
        _check(validation)
        validation = _sorted(validation)
    scored = {card.id for one in (train, validation) for card in _scored(one)}
    cards = tuple(sorted((card for card in train.models if card.id in scored), key=lambda card: card.id))
    if not cards:
        raise ValueError(f"data set '{train.name}' has no score of any of its models: bring rows with scores")
    fitted, tuned = _lesson(train, cards), _lesson(validation, cards)
    return fitted, tuned, fitted if train is validation else joined(fitted, tuned)


def lesson_of(dataset: Dataset) -> Lesson:
    """A whole data set in its own order of queries and models."""
    return _lesson(dataset, dataset.models)


def _held_back(train: Dataset, seed: int) -> tuple[Indices, Indices]:
    try:
        first, second, _ = by_group(train, seed, (1 - VALIDATION_SHARE, VALIDATION_SHARE, 0.0))
    except ValueError:
        everything = np.arange(len(train), dtype=np.intp)
        return everything, everything
    return first, second


def _check(dataset: Dataset) -> None:
    name = f"data set '{dataset.name}'"
    if len(dataset) == 0 or not dataset.models:
        raise ValueError(f"{name} has {len(dataset)} queries and {len(dataset.models)} models: bring some of both")
    found = dataset.score[dataset.observed]
    if not len(found):
        raise ValueError(f"{name} has no score at all: bring rows with scores from 0 to 1")
    if not (found.min() >= 0 and found.max() <= 1):
        raise ValueError(f"{name} has scores from {found.min():g} to {found.max():g}: bring them to 0 to 1")
    if not (np.isfinite(dataset.inputs.embeddings).all() and np.isfinite(dataset.inputs.facts).all()):
        raise ValueError(f"{name} has embeddings or facts that are not finite: embed the texts anew")


def _sorted(dataset: Dataset) -> Dataset:
    """Rows by id, so that the order in a file teaches nothing."""
    order = sorted(range(len(dataset)), key=dataset.query_ids.__getitem__)
    return dataset.rows(np.array(order, dtype=np.intp))


def _scored(dataset: Dataset) -> list[ModelCard]:
    return [card for card, seen in zip(dataset.models, np.asarray(dataset.observed.any(axis=0)), strict=True) if seen]


def _lesson(dataset: Dataset, cards: Sequence[ModelCard]) -> Lesson:
    place = {card.id: column for column, card in enumerate(dataset.models)}
    columns = np.array([place.get(card.id, -1) for card in cards], dtype=np.intp)

    def taken(matrix: Floats) -> Floats:
        return np.where(columns >= 0, matrix[:, columns], np.nan).astype(matrix.dtype)

    tokens = taken(dataset.output_tokens)
    return Lesson(
        cards=tuple(cards),
        inputs=dataset.inputs,
        score=taken(dataset.score),
        log_tokens=np.log(np.maximum(tokens, 1.0)),
        cost_usd=taken(dataset.cost_usd),  # type: ignore[arg-type] # doubles as well
        latency_s=taken(dataset.latency_s),
        groups=dataset.groups,
    )


def joined(first: Lesson, second: Lesson) -> Lesson:
    """The queries of both, of the same models."""
    inputs = Inputs(
        np.concatenate([first.inputs.embeddings, second.inputs.embeddings]),
        np.concatenate([first.inputs.tokens, second.inputs.tokens]),
        np.concatenate([first.inputs.facts, second.inputs.facts]),
    )
    joined: dict[str, Any] = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in _BY_QUERY}
    return replace(first, inputs=inputs, **joined)
