"""One partition's semantic search: near entries by vector, judged by the verifier, served above a certified threshold.

It knows neither stores nor requests: entries carry a key that means something to its owner only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gateway.cache.nearby import Nearby
from gateway.cache.parsed import Parsed
from gateway.cache.partition import Vector

# Learned from are more than are judged: replayed with the shipped verifier, four gave about the hits of eight.
CANDIDATES = 8
JUDGED = 4
FLOOR = 0.5
ELSE = "*"


@dataclass(frozen=True, slots=True)
class Entry:
    """What the search needs of a query, asked or cached. `vector` is a unit vector."""

    key: str
    category: str
    parsed: Parsed
    vector: Vector


class Candidate(Protocol):
    """What a judge needs of a cached query; `Entry` is one."""

    @property
    def key(self) -> str: ...
    @property
    def category(self) -> str: ...
    @property
    def parsed(self) -> Parsed: ...


class Judge(Protocol):
    """P(same answer) of candidates for a query; see `Verifier.probabilities`."""

    def __call__(
        self, query: Entry, candidates: Sequence[Candidate], cosines: Vector, /
    ) -> npt.NDArray[np.float64]: ...


# The smallest probability at which an answer of this cached category may be served; None: not at all.
Needed = Callable[[str], float | None]


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

    def __init__(self, dimensions: int, judge: Judge) -> None:
        self._vectors = Nearby(dimensions)
        self._entries: list[Candidate] = []
        self._rows: dict[str, int] = {}
        self._judge = judge

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """What the vectors take."""
        return self._vectors.nbytes

    @property
    def dimensions(self) -> int:
        """Numbers in a vector."""
        return self._vectors.dimensions

    @property
    def graph_wanted(self) -> bool:
        """Whether a graph is yet to grow; until then all is scanned."""
        return self._vectors.graph_wanted

    def near(self, vector: Vector, now_s: float = -inf) -> tuple[list[Candidate], Vector]:
        """The nearest entries that live, with their cosines, largest first."""
        rows, cosines = self._vectors.search(vector, JUDGED, FLOOR, now_s)
        return [self._entries[row] for row in rows], cosines

    def find(self, query: Entry, needed: Needed, now_s: float = -inf) -> list[Match]:
        """The entries among the nearest that may answer, the likeliest first."""
        candidates, cosines = self.near(query.vector, now_s)
        return self.judged(query, candidates, cosines, needed)

    def judged(self, query: Entry, candidates: Sequence[Candidate], cosines: Vector, needed: Needed) -> list[Match]:
        """Those of `near` that may answer, the likeliest first."""
        if not candidates:
            return []
        chances = self._judge(query, candidates, cosines)
        found = []
        for place in np.argsort(-chances, kind="stable"):
            least = needed(candidates[place].category)
            if least is not None and chances[place] >= least:
                found.append(Match(candidates[place].key, float(cosines[place]), float(chances[place])))
        return found

    def add(self, entry: Candidate, vector: Vector, until_s: float = inf) -> None:
        """Keep an entry and its unit vector until a time; one of the same key is replaced."""
        self.remove(entry.key)
        self._rows[entry.key] = self._vectors.add(vector, until_s)
        self._entries.append(entry)

    def close(self) -> None:
        """It is not needed any more."""
        self._vectors.close()

    def remove(self, key: str) -> bool:
        """Forget an entry; whether it was there."""
        row = self._rows.pop(key, None)
        if row is None:
            return False
        self._vectors.remove(row)
        last = self._entries.pop()
        if last.key != key:
            self._entries[row] = last
            self._rows[last.key] = row
        return True
