"""How long a prompt that comes now would wait for its turn, by what earlier ones have taken."""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import Final

# How fast old measurements are forgotten, a step or an answer at a time.
_KEPT: Final = 0.95


class _Rate:
    """Seconds for one of something, the latest counting most; 0 before the first."""

    def __init__(self) -> None:
        self._seconds = self._count = 0.0

    def add(self, seconds: float, count: float) -> None:
        self._seconds = self._seconds * _KEPT + seconds
        self._count = self._count * _KEPT + count

    @property
    def value(self) -> float:
        return self._seconds / self._count if self._count else 0.0


class Waits:
    """What steps and answers of one engine take."""

    def __init__(self) -> None:
        self._read = _Rate()
        self._stay = _Rate()

    def step(self, read: int, rows: int, seconds: float) -> None:
        """A step with so many rows, `read` of them of prompts; those share its time."""
        if read:
            self._read.add(seconds * read / rows, read)

    def answered(self, seconds: float) -> None:
        """An answer had its place for so long."""
        self._stay.add(seconds, 1)

    def expected_s(self, places: int, since: Items[float], unread: int, waiting: int) -> float:
        """Seconds until a prompt that comes now is begun.

        `since` has for each running answer how long it has had its place, of `places`; `unread` tokens of running
        prompts are to be read first, `waiting` prompts come before it.
        """
        ahead = waiting + 1 - (places - len(since))
        reading = unread * self._read.value
        if ahead <= 0 or not self._stay.value:
            return reading
        return max(reading, self._places(sorted(since, reverse=True), ahead, places))

    def _places(self, since: Items[float], ahead: int, places: int) -> float:
        """Until so many places have become free, were every answer to take as long as the mean."""
        stay = self._stay.value
        left = [max(stay - seconds, stay / 10) for seconds in since] + [stay] * (places - len(since))
        rounds, rest = divmod(ahead - 1, places)
        return rounds * stay + left[rest]
