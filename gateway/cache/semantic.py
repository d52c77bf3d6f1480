"""One partition's semantic search: near entries by vector, judged by the verifier, served above a certified threshold.

It knows neither stores nor requests: entries carry a key that means something to its owner only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gateway.cache.parsed import Parsed
from gateway.cache.partition import Partition, Vector

CANDIDATES = 8
FLOOR = 0.5
ELSE = "*"


@dataclass(frozen=True, slots=True)
class Entry:
    """What the search needs of a query, asked or cached. `vector` is a unit vector."""

    key: str
    category: str
    parsed: Parsed
    vector: Vector


class Judge(Protocol):
    """P(same answer) of candidates for a query; see `Verifier.probabilities`."""

    def __call__(self, query: Entry, candidates: Sequence[Entry], cosines: Vector, /) -> npt.NDArray[np.float64]: ...


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The smallest probability at which a category may serve; None: exact matches only. ELSE stands for the others."""

    by_category: Mapping[str, float | None]

    def of(self, asked: str, cached: str) -> float | None:
        """The stricter one of two categories' thresholds."""
        ours, theirs = (self.by_category.get(one, self.by_category.get(ELSE)) for one in (asked, cached))
        return None if ours is None or theirs is None else max(ours, theirs)


@dataclass(frozen=True, slots=True)
class Match:
    """An entry that may answer: its key, cosine and probability."""

    key: str
    cosine: float
    probability: float


class SemanticIndex:
    """The entries of one partition."""

    def __init__(self, dimensions: int, judge: Judge, thresholds: Thresholds) -> None:
        self._partition = Partition(dimensions)
        self._entries: list[Entry] = []
        self._rows: dict[str, int] = {}
        self._judge = judge
        self._thresholds = thresholds

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, query: Entry) -> Match | None:
        """The likeliest entry among the nearest whose probability reaches the stricter threshold, or None."""
        rows, cosines = self._partition.search(query.vector, CANDIDATES, FLOOR)
        if not len(rows):
            return None
        candidates = [self._entries[row] for row in rows]
        chances = self._judge(query, candidates, cosines)
        for place in np.argsort(-chances, kind="stable"):
            needed = self._thresholds.of(query.category, candidates[place].category)
            if needed is not None and chances[place] >= needed:
                return Match(candidates[place].key, float(cosines[place]), float(chances[place]))
        return None

    def add(self, entry: Entry) -> None:
        """Keep an entry; one of the same key is replaced."""
        self.remove(entry.key)
        self._rows[entry.key] = self._partition.add(entry.vector)
        self._entries.append(entry)

    def remove(self, key: str) -> bool:
        """Forget an entry; whether it was there."""
        row = self._rows.pop(key, None)
        if row is None:
            return False
        self._partition.remove(row)
        last = self._entries.pop()
        if last.key != key:
            self._entries[row] = last
            self._rows[last.key] = row
        return True
