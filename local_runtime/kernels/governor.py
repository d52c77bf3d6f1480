"""How many threads a pass takes. Threads that meet after every product are faster together only while each has a core:
where one has to wait for its turn, all wait for it, and one alone would be faster by far."""

from __future__ import annotations

from math import inf
from typing import Final

_KEPT: Final = 0.7
# After how many passes another number is tried: the first time, after a change, and at most. A try may take ten times
# as long as the others.
_FIRST_TRY: Final = 8
_TRIED_AFTER: Final = 32
_TRIED_AFTER_MOST: Final = 2048
_BETTER_BY: Final = 0.95


class _Size:
    """Passes of about the same number of rows."""

    def __init__(self, choices: list[int]) -> None:
        self.choices = choices
        self.seconds: dict[int, float] = {}
        self.now = choices[-1]
        self.left = _FIRST_TRY
        self.pause = _TRIED_AFTER

    def next(self) -> int:
        """Threads for the next pass."""
        self.left -= 1
        return self.now if self.left > 0 else self._neighbour()

    def took(self, threads: int, seconds_a_row: float) -> None:
        """What a pass took; the fastest number is used from now on."""
        tried = threads != self.now
        before = seconds_a_row if tried else self.seconds.get(threads, seconds_a_row)
        self.seconds[threads] = before * _KEPT + seconds_a_row * (1 - _KEPT)
        best = min(self.seconds, key=lambda choice: self.seconds[choice])
        better = self.seconds[best] < self.seconds.get(self.now, inf) * _BETTER_BY
        if better:
            self.now = best
        if better or self.left <= 0:
            self.pause = _TRIED_AFTER if better else min(2 * self.pause, _TRIED_AFTER_MOST)
            self.left = self.pause

    def _neighbour(self) -> int:
        """The next larger number, or the next smaller one where there is none."""
        at = self.choices.index(self.now)
        return self.choices[at + 1] if at + 1 < len(self.choices) else self.choices[at - 1]


class Governor:
    """For up to `most` threads; measures every pass that it has chosen for."""

    def __init__(self, most: int) -> None:
        choices = [1]
        while choices[-1] < most:
            choices.append(min(2 * choices[-1], most))
        self._choices = choices
        self._sizes: dict[int, _Size] = {}

    def threads(self, rows: int) -> int:
        """How many threads a pass of so many rows should take."""
        return self._choices[0] if len(self._choices) == 1 else self._size(rows).next()

    def took(self, rows: int, threads: int, seconds: float) -> None:
        """What it took."""
        if len(self._choices) > 1:
            self._size(rows).took(threads, seconds / rows)

    def _size(self, rows: int) -> _Size:
        key = min(rows.bit_length(), 6)
        if key not in self._sizes:
            self._sizes[key] = _Size(self._choices)
        return self._sizes[key]
