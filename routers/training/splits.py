"""Ways to divide a dataset for honest judgement: by question, by model, by task. Same seed, same split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from routers.training.dataset import Dataset, Indices

SHARES = (0.7, 0.1, 0.2)


def by_group(
    dataset: Dataset, seed: int, shares: tuple[float, float, float] = SHARES
) -> tuple[Indices, Indices, Indices]:
    """Rows to train on, to tune on and to test on, each ascending; a question's rows are never divided.

    Shares are of rows and kept to within one question's size. `ValueError` where shares don't sum to 1, or where
    there are too few questions to give every wanted part one.
    """
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"shares {shares} must be 0 or more and sum to 1")
    order, sizes = _shuffled(dataset, seed)
    wanted = sum(share > 0 for share in shares)
    if len(sizes) < wanted:
        raise ValueError(f"{len(sizes)} different questions can't be divided into {wanted} parts: bring more queries")
    ends = np.cumsum(sizes)
    cuts = [_nearest(ends, share * len(dataset)) for share in np.cumsum(shares)[:-1]]
    first, second = _apart(cuts[0], cuts[1], len(sizes), shares)
    parts = (order < first, (order >= first) & (order < second), order >= second)
    return parts[0].nonzero()[0], parts[1].nonzero()[0], parts[2].nonzero()[0]


def folds_by_group(dataset: Dataset, count: int, seed: int) -> list[tuple[Indices, Indices]]:
    """`count` pairs (the other rows, this fold's rows) for cross-validation; a question is in one fold only."""
    order, sizes = _shuffled(dataset, seed)
    if not 2 <= count <= len(sizes):
        raise ValueError(f"{len(sizes)} different questions can't be divided into {count} folds")
    fold = np.arange(len(sizes))[order] % count
    return [((fold != one).nonzero()[0], (fold == one).nonzero()[0]) for one in range(count)]


def leave_models_out(dataset: Dataset, count: int, seed: int, named: Sequence[str] = ()) -> tuple[list[int], list[int]]:
    """Columns that are kept and those that are held out, each ascending: the `named` models', else `count` at random.

    `ValueError` where fewer than two would be kept, or a named model is unknown.
    """
    total, ids = len(dataset.models), [card.id for card in dataset.models]
    unknown = [name for name in named if name not in ids]
    if unknown:
        raise ValueError(f"data set '{dataset.name}' has no model '{unknown[0]}' to hold out; it has {', '.join(ids)}")
    held = {ids.index(name) for name in named}
    if not 1 <= (len(held) or count) <= total - 2:
        raise ValueError(f"of {total} models 1 to {total - 2} can be held out, not {len(held) or count}")
    held = held or set(np.random.default_rng(seed).permutation(total)[:count].tolist())
    return [column for column in range(total) if column not in held], sorted(held)


def leave_tasks_out(dataset: Dataset, seed: int) -> Iterator[tuple[str, Indices, Indices]]:
    """Each task in turn, in an order that the seed gives: its name, the rows to train on, its own rows to test on.

    Questions that the task shares with others are not trained on. `ValueError` where there is one task only.
    """
    names = sorted(set(dataset.tasks))
    if len(names) < 2:
        raise ValueError(f"data set '{dataset.name}' has one task only: no task can be left out")
    return _each_task(dataset, [names[place] for place in np.random.default_rng(seed).permutation(len(names))])


def _each_task(dataset: Dataset, names: Sequence[str]) -> Iterator[tuple[str, Indices, Indices]]:
    tasks = np.array(dataset.tasks, dtype=object)
    for name in names:
        test = tasks == name
        train = ~test & ~np.isin(dataset.groups, dataset.groups[test])
        if train.any():
            yield name, train.nonzero()[0], test.nonzero()[0]


def _shuffled(dataset: Dataset, seed: int) -> tuple[Indices, Indices]:
    """Of each row the place [Q] of its question in a shuffled order, and in that order the questions' sizes [G]."""
    # By first appearance rather than by number: two files with the same rows are then divided alike.
    _, firsts, inverse, sizes = np.unique(dataset.groups, return_index=True, return_inverse=True, return_counts=True)
    by_appearance = np.argsort(firsts)
    shuffled = by_appearance[np.random.default_rng(seed).permutation(len(sizes))]
    place = np.empty(len(sizes), dtype=np.intp)
    place[shuffled] = np.arange(len(sizes))
    return place[inverse], sizes[shuffled]


def _nearest(ends: Indices, rows: float) -> int:
    """How many questions hold about so many rows."""
    return int(np.argmin(np.abs(np.concatenate(([0], ends)) - rows)))


def _apart(first: int, second: int, total: int, shares: Sequence[float]) -> tuple[int, int]:
    """Two cuts such that every part that was asked for has a question."""
    needs = [int(share > 0) for share in shares]
    first = min(max(first, needs[0]), total - needs[1] - needs[2])
    return first, min(max(second, first + needs[1]), total - needs[2])
