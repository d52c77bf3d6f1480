"""Which expert goes when another one comes: what is worth least. Knows numbers only.

Layers are counted as rows of the layout; a visit is a step's pass through a layer.
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

Worths = npt.NDArray[np.float64]
Chosen = npt.NDArray[np.intp]

# Visits since an expert was last used, as far as they are told apart.
_AGES: Final = 12
_HALF_LIFE: Final = 64.0


class Policy(Protocol):
    """Of one cache."""

    def visited(self, row: int, used: Chosen) -> None:
        """A step has come to a layer, whose rows want these experts."""

    def worths(self) -> Worths:
        """[layers, experts]: the least goes first."""


class Lru:
    """What was used longest ago goes first."""

    def __init__(self, layers: int, experts: int) -> None:
        self._last = np.full((layers, experts), -1.0)
        self._clock = 0

    def visited(self, row: int, used: Chosen) -> None:
        """See Policy."""
        self._clock += 1
        self._last[row, used] = self._clock

    def worths(self) -> Worths:
        """See Policy."""
        return self._last


class Lfu:
    """What was used least goes first; a use counts half after 64 visits of its layer."""

    def __init__(self, layers: int, experts: int) -> None:
        self._uses = np.zeros((layers, experts))
        self._last = np.zeros((layers, experts))
        self._clock = 0

    def visited(self, row: int, used: Chosen) -> None:
        """See Policy."""
        self._clock += 1
        self._uses[row] *= 0.5 ** (1 / _HALF_LIFE)
        self._uses[row, used] += 1
        self._last[row, used] = self._clock

    def worths(self) -> Worths:
        """See Policy."""
        return self._uses + self._last * 1e-9


class NextUse:
    """What will most likely not be needed for longest goes first.

    Learns, from the run itself, how likely an expert is wanted at a visit by how many visits ago it was last wanted
    and by how often it is wanted at all; and counts in how many layers its layer comes again.
    """

    def __init__(self, layers: int, experts: int) -> None:
        self._layers = layers
        self._age = np.full((layers, experts), _AGES - 1)
        self._often = np.full((layers, experts), 0.5)
        # Of each age and each third of how often: visits and uses, with what is believed before anything was seen.
        self._seen = np.full((_AGES, 3), 2.0)
        self._used = np.linspace(1.2, 0.2, _AGES)[:, None] * np.array([0.6, 1.0, 1.4])
        self._row = 0
        # (1 / odds - 1) x layers, of each layer as of its last visit.
        self._wait = np.full((layers, experts), float(layers))

    def visited(self, row: int, used: Chosen) -> None:
        """See Policy."""
        ages, thirds = self._age[row], self._thirds(row)
        hit = np.zeros(len(ages), dtype=bool)
        hit[used] = True
        np.add.at(self._seen, (ages, thirds), 1.0)
        np.add.at(self._used, (ages, thirds), hit)
        self._age[row] = np.where(hit, 0, np.minimum(ages + 1, _AGES - 1))
        self._often[row] += (hit - self._often[row]) * (1 / _HALF_LIFE)
        self._row = row
        self._wait[row] = (1 / self.odds(row).clip(1e-3, 1.0) - 1) * self._layers

    def odds(self, row: int) -> Worths:
        """How likely each expert of a layer is wanted at its next visit: [experts]."""
        ages, thirds = self._age[row], self._thirds(row)
        found: Worths = self._used[ages, thirds] / self._seen[ages, thirds]
        return found

    def worths(self) -> Worths:
        """See Policy."""
        away = (np.arange(self._layers) - self._row - 1) % self._layers
        found: Worths = -self._wait - away[:, None]
        return found

    def _thirds(self, row: int) -> npt.NDArray[np.intp]:
        """0, 1 or 2: how often each expert is wanted, beside the others of its layer."""
        often = self._often[row]
        rank: npt.NDArray[np.intp] = often.argsort(kind="stable").argsort(kind="stable") * 3 // len(often)
        return rank


class Belady:
    """What is needed again last goes first, by a route that is known beforehand: the bound of all policies.

    `uses[row][expert]` are the visits, counted over all layers, at which an expert will be wanted, in order.
    """

    def __init__(self, uses: list[list[list[int]]]) -> None:
        self._uses = uses
        self._next = np.array([[one[0] if one else np.inf for one in row] for row in uses], dtype=np.float64)
        self._at = [[0] * len(row) for row in uses]
        self._clock = -1

    def visited(self, row: int, used: Chosen) -> None:
        """See Policy."""
        self._clock += 1
        for expert in used.tolist():
            uses, at = self._uses[row][expert], self._at[row][expert]
            while at < len(uses) and uses[at] <= self._clock:
                at += 1
            self._at[row][expert] = at
            self._next[row, expert] = uses[at] if at < len(uses) else np.inf

    def worths(self) -> Worths:
        """See Policy."""
        return -self._next
