"""Which experts are in memory, to the byte. Knows no files and no threads: whoever loads says what has come.

An expert has its first `n` planes or is without any. What is pinned or on its way is not given up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from local_runtime.experts.layout import Key, Layout
from local_runtime.experts.policies import Chosen, Policy, Worths


class ExpertCache:
    """`sizes`: what each plane takes in memory; `used` never exceeds `budget`."""

    def __init__(self, layout: Layout, sizes: Sequence[int], budget: int, policy: Policy) -> None:
        shape = len(layout.layers), layout.experts
        self._row = {layer: row for row, layer in enumerate(layout.layers)}
        self._layers = layout.layers
        self._sizes = tuple(sizes)
        self.budget = budget
        self.used = 0
        self._policy = policy
        self._ready = np.zeros(shape, dtype=np.int64)
        self._coming = np.zeros(shape, dtype=np.int64)  # planes that are reserved beyond those that are ready
        self._pins = np.zeros(shape, dtype=np.int64)
        self._expected = np.zeros(shape)

    def visited(self, layer: int, wanted: Chosen) -> None:
        """A step has come to a layer."""
        self._policy.visited(self._row[layer], wanted)
        self._expected[self._row[layer]] = 0

    def expect(self, layer: int, odds: Worths) -> None:
        """How likely each expert of a coming layer is wanted there: those are kept before others."""
        self._expected[self._row[layer]] = odds

    def ready(self, key: Key) -> int:
        """How many planes are there."""
        return int(self._ready[self._at(key)])

    def coming(self, key: Key) -> int:
        """How many planes are there or on their way."""
        at = self._at(key)
        return int(self._ready[at] + self._coming[at])

    def pin(self, key: Key) -> None:
        """Don't give it up before `unpin`."""
        self._pins[self._at(key)] += 1

    def unpin(self, key: Key) -> None:
        """The opposite of `pin`, once for each."""
        self._pins[self._at(key)] -= 1

    def reserve(self, key: Key, *, at_any_cost: bool) -> list[tuple[Key, int]] | None:
        """Room for the next plane of an expert: what had to go for it, None where there is none to be had.

        What is expected no less than the newcomer goes only at any cost.
        """
        at = self._at(key)
        size = self._sizes[self._ready[at] + self._coming[at]]
        victims = self._victims(at, size, at_any_cost)
        if victims is None:
            return None
        gone = [(self._key(row, expert), plane) for row, expert in victims for plane in range(self._ready[row, expert])]
        for row, expert in victims:
            self.used -= sum(self._sizes[: self._ready[row, expert]])
            self._ready[row, expert] = 0
        self.used += size
        self._coming[at] += 1
        return gone

    def arrived(self, key: Key) -> None:
        """The next plane of an expert is there."""
        at = self._at(key)
        self._coming[at] -= 1
        self._ready[at] += 1

    def failed(self, key: Key) -> None:
        """The last plane that was reserved does not come."""
        at = self._at(key)
        self._coming[at] -= 1
        self.used -= self._sizes[self._ready[at] + self._coming[at]]

    def forget(self, key: Key) -> int:
        """Give up an expert of which nothing is on its way; how many planes were there."""
        at = self._at(key)
        planes = int(self._ready[at])
        self.used -= sum(self._sizes[:planes])
        self._ready[at] = 0
        return planes

    def _victims(self, at: tuple[int, int], size: int, at_any_cost: bool) -> list[tuple[int, int]] | None:
        missing = self.used + size - self.budget
        if missing <= 0:
            return []
        worths = self._policy.worths()
        expected = self._expected
        free = (self._ready > 0) & (self._pins == 0) & (self._coming == 0)
        free[at] = False
        if not at_any_cost:
            free &= expected < expected[at]
        rows, experts = np.nonzero(free)
        order = np.lexsort((worths[rows, experts], expected[rows, experts] > 0))
        victims = []
        for i in order.tolist():
            victims.append((int(rows[i]), int(experts[i])))
            missing -= sum(self._sizes[: self._ready[victims[-1]]])
            if missing <= 0:
                return victims
        return None

    def _at(self, key: Key) -> tuple[int, int]:
        return self._row[key[0]], key[1]

    def _key(self, row: int, expert: int) -> Key:
        return self._layers[row], expert
