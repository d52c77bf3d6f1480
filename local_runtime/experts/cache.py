"""Which experts are in memory. Knows no files and no threads: whoever loads says what has come.

What is pinned or on its way is not given up.
"""

from __future__ import annotations

import numpy as np

from local_runtime.experts.layout import Key, Layout
from local_runtime.experts.policies import Chosen, Policy, Worths


class ExpertCache:
    """Room for so many experts, those on their way among them."""

    def __init__(self, layout: Layout, room: int, policy: Policy) -> None:
        shape = len(layout.layers), layout.experts
        self._row = {layer: row for row, layer in enumerate(layout.layers)}
        self._layers = layout.layers
        self.room = room
        self.used = 0
        self._policy = policy
        self._ready = np.zeros(shape, dtype=bool)
        self._coming = np.zeros(shape, dtype=bool)
        self._pins = np.zeros(shape, dtype=np.int64)
        self._expected = np.zeros(shape)

    def visited(self, layer: int, wanted: Chosen) -> None:
        """A step has come to a layer."""
        self._policy.visited(self._row[layer], wanted)
        self._expected[self._row[layer]] = 0

    def expect(self, layer: int, odds: Worths) -> None:
        """How likely each expert of a coming layer is wanted there: those are kept before others."""
        self._expected[self._row[layer]] = odds

    def ready(self, key: Key) -> bool:
        """Whether it is there."""
        return bool(self._ready[self._at(key)])

    def coming(self, key: Key) -> bool:
        """Whether it is on its way."""
        return bool(self._coming[self._at(key)])

    def pin(self, key: Key) -> None:
        """Don't give it up before `unpin`."""
        self._pins[self._at(key)] += 1

    def unpin(self, key: Key) -> None:
        """The opposite of `pin`, once for each."""
        self._pins[self._at(key)] -= 1

    def reserve(self, key: Key, *, at_any_cost: bool) -> list[Key] | None:
        """Room for an expert that is neither there nor on its way: what had to go, None where none is to be had.

        What is expected no less than the newcomer goes only at any cost.
        """
        at = self._at(key)
        gone: list[Key] = []
        if self.used >= self.room:
            victim = self._victim(at, at_any_cost)
            if victim is None:
                return None
            self._ready[victim] = False
            self.used -= 1
            gone.append((self._layers[victim[0]], victim[1]))
        self.used += 1
        self._coming[at] = True
        return gone

    def arrived(self, key: Key) -> None:
        """What was on its way is there."""
        at = self._at(key)
        self._coming[at], self._ready[at] = False, True

    def failed(self, key: Key) -> None:
        """What was on its way does not come."""
        self._coming[self._at(key)] = False
        self.used -= 1

    def _victim(self, at: tuple[int, int], at_any_cost: bool) -> tuple[int, int] | None:
        expected = self._expected
        free = self._ready & (self._pins == 0)
        if not at_any_cost:
            free &= expected < expected[at]
        rows, experts = np.nonzero(free)
        if not len(rows):
            return None
        worths = self._policy.worths()
        least = np.lexsort((worths[rows, experts], expected[rows, experts] > 0))[0]
        return int(rows[least]), int(experts[least])

    def _at(self, key: Key) -> tuple[int, int]:
        return self._row[key[0]], key[1]
