"""How many guesses are worth checking: tokens that are likely to come out, by the time that a step will take.

The idea of SpecDec++ (arXiv:2405.19715), to stop where a rejection is likelier than worth it, with measured times in
place of a trained head.
"""

from __future__ import annotations

from typing import Final, Protocol

from local_runtime.decoding.drafts import Odds

# What the first estimate counts for beside measurements, and how fast those are forgotten.
_KEPT: Final = 0.98
_FIRST_SHARE_A_ROW: Final = 0.25
# A guess has to promise this much more than it costs: estimates are noisy.
_MARGIN: Final = 1.03


class Pace(Protocol):
    """Says how many guesses to check; one for all sequences of an engine."""

    def count(self, odds: Odds, rows: int, most: int) -> int:
        """How many of `most` guesses, beside `rows` other rows."""

    def took(self, rows: int, seconds: float) -> None:
        """A step that computed no prompt took so long."""


class Fixed:
    """Always so many, or as many as there are."""

    def __init__(self, guesses: int) -> None:
        self._guesses = guesses

    def count(self, odds: Odds, rows: int, most: int) -> int:
        """See Pace."""
        return min(self._guesses, most)

    def took(self, rows: int, seconds: float) -> None:
        """See Pace."""


class Adaptive:
    """The number with the most tokens a second, by what steps have taken."""

    def __init__(self) -> None:
        self._cost = StepCost()

    def count(self, odds: Odds, rows: int, most: int) -> int:
        """See Pace."""
        return worth_checking(odds, rows, self._cost.share_a_row(), most)

    def took(self, rows: int, seconds: float) -> None:
        """See Pace."""
        self._cost.add(rows, seconds)


class StepCost:
    """Seconds of a step as a straight line of its rows, fitted to what was measured, the latest counting most."""

    def __init__(self) -> None:
        # Sums of 1, rows, rows squared, seconds, seconds x rows.
        self._sums = [0.0, 0.0, 0.0, 0.0, 0.0]

    def add(self, rows: int, seconds: float) -> None:
        """One step that computed no prompt."""
        new = (1.0, rows, rows * rows, seconds, seconds * rows)
        self._sums = [old * _KEPT + one for old, one in zip(self._sums, new, strict=True)]

    def share_a_row(self) -> float:
        """What a row more costs, as a share of a step with one row; between .02 and 1."""
        count, rows, squares, seconds, products = self._sums
        spread = count * squares - rows * rows
        if count < 2 or spread < 1e-6 * count * count:
            return _FIRST_SHARE_A_ROW
        slope = (count * products - rows * seconds) / spread
        alone = (seconds - slope * (rows - count)) / count
        if alone <= 0:
            return 1.0
        # Before steps of different sizes have been seen often, the first estimate keeps its weight.
        trust = min(1.0, spread / (count * count))
        found = min(1.0, max(0.02, slope / alone))
        return trust * found + (1 - trust) * _FIRST_SHARE_A_ROW


def worth_checking(odds: Odds, rows: int, share_a_row: float, most: int) -> int:
    """How many guesses of one sequence, beside `rows` rows that are computed anyway: the number with the most tokens a
    second, 0 where none is better."""
    best, best_rate = 0, rows / (1 + share_a_row * (rows - 1)) * _MARGIN
    expected, chance = float(rows), odds.first
    for count in range(1, most + 1):
        expected += chance
        chance *= odds.further
        rate = expected / (1 + share_a_row * (rows + count - 1))
        if rate > best_rate:
            best, best_rate = count, rate
    return best
