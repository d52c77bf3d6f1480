"""Whose turn it is: the more urgent first, then who has had least (virtual token counters, arXiv:2401.00588)."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from local_runtime.sequence import Sequence

# What a written token counts for, beside one that is read.
WRITTEN_COUNTS: Final = 2
# Circles that are remembered beyond those that are here.
_REMEMBERED: Final = 1024


class FairQueue:
    """Sequences that wait. A circle that comes anew begins with what the least served one here has had: who was away
    has saved nothing up, and who asks a hundred things at once delays others by one of them."""

    def __init__(self) -> None:
        self._waiting: dict[Sequence, int] = {}
        self._arrivals = 0
        self._had: OrderedDict[str, float] = OrderedDict()
        self._here: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._waiting)

    def add(self, sequence: Sequence) -> None:
        """One that has just arrived."""
        circle = sequence.circle
        if not self._here[circle]:
            least = min((self._had[other] for other in self._here if self._here[other]), default=0.0)
            self._had[circle] = max(self._had.get(circle, 0.0), least)
            self._forget()
        self._here[circle] += 1
        self._arrivals += 1
        self._waiting[sequence] = self._arrivals

    def back(self, sequence: Sequence) -> None:
        """One that had its turn and gave its place up: it comes before all others of its circle."""
        self._waiting = {sequence: 0, **self._waiting}

    def first(self, may: Callable[[Sequence], bool]) -> Sequence | None:
        """Whose turn it is of those that may; it stays here until `take`."""
        candidates = filter(may, self._waiting)
        return min(candidates, key=self._rank, default=None)

    def take(self, sequence: Sequence) -> None:
        """It waits no more."""
        del self._waiting[sequence]

    def charge(self, sequence: Sequence, read: int, written: int) -> None:
        """Tokens that were computed for it."""
        self._had[sequence.circle] += read + WRITTEN_COUNTS * written

    def left(self, sequence: Sequence) -> None:
        """It has ended, waiting or not."""
        self._waiting.pop(sequence, None)
        self._here[sequence.circle] -= 1
        if not self._here[sequence.circle]:
            del self._here[sequence.circle]

    def _rank(self, sequence: Sequence) -> tuple[int, float, int]:
        return -sequence.priority, self._had[sequence.circle], self._waiting[sequence]

    def _forget(self) -> None:
        for circle in list(self._had):
            if len(self._had) <= _REMEMBERED + len(self._here):
                return
            if not self._here[circle]:
                del self._had[circle]
