"""How many guesses are worth checking: tokens that are likely to come out, by the time that a step will take.

The idea of SpecDec++ (arXiv:2405.19715), to stop where a rejection is likelier than worth it, with measured times in
place of a trained head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from local_runtime.decoding.drafts import Odds

# What the first estimate counts for beside measurements, and how fast those are forgotten.
_KEPT: Final = 0.98
_FIRST_SHARE_A_ROW: Final = 0.25
# What a step of a draft model is taken for, as a share of the main one's, until it has been measured so often.
_FIRST_DRAFT: Final = 0.1
_MEASURED: Final = 8
# A guess has to promise this much more than it costs: estimates are noisy.
_MARGIN: Final = 1.03


@dataclass(frozen=True, slots=True)
class Costs:
    """In steps of one row: a row more, a step of the draft model, and what a row more costs that."""

    row: float = 0.0
    draft: float = 0.0
    draft_row: float = 0.0

    def draft_step(self, sequences: int) -> float:
        """A guess for each of so many sequences."""
        return self.draft + self.draft_row * (sequences - 1)

    def guess(self, sequences: int) -> float:
        """To write a guess beside those of other sequences, so many in all, and to check it."""
        return self.row + self.draft_step(sequences) / sequences


class StepPlan:
    """A step as it is put together: how many tokens it promises, and how long it will take."""

    def __init__(self, rows: int, costs: Costs) -> None:
        self.costs = costs
        self._tokens = float(rows)
        self._time = 1 + costs.row * (rows - 1)

    @property
    def rate(self) -> float:
        """Tokens in the time of a step of one row."""
        return self._tokens / self._time

    def pays(self, chance: float, cost: float) -> bool:
        """Whether a token of such a chance makes the rate higher, by more than estimates are off."""
        return chance > cost * self.rate * _MARGIN

    def add(self, chance: float, cost: float) -> None:
        """Take in what promises so much of a token."""
        self._tokens += chance
        self._time += cost

    def gain(self, odds: Odds, cost: float, most: int) -> float:
        """What up to `most` guesses promise beyond what their time is worth, in tokens."""
        total, chance = 0.0, odds.first
        for _ in range(most):
            if not self.pays(chance, cost):
                break
            total += chance - cost * self.rate
            chance *= odds.further
        return total


class Pace(Protocol):
    """Says how many guesses to check; one for all sequences of an engine."""

    def count(self, odds: Odds, rows: int, most: int) -> int:
        """How many of `most` guesses, beside `rows` other rows."""

    def took(self, rows: int, seconds: float) -> None:
        """A step that computed no prompt took so long."""

    def drafted(self, rows: int, seconds: float) -> None:
        """A step of the draft model that computed no prompt took so long."""

    def costs(self) -> Costs:
        """What guesses cost that a draft model writes."""


class Fixed:
    """Always so many, or as many as there are."""

    def __init__(self, guesses: int) -> None:
        self._guesses = guesses

    def count(self, odds: Odds, rows: int, most: int) -> int:
        """See Pace."""
        return min(self._guesses, most)

    def took(self, rows: int, seconds: float) -> None:
        """See Pace."""

    def drafted(self, rows: int, seconds: float) -> None:
        """See Pace."""

    def costs(self) -> Costs:
        """Nothing: all are written and checked."""
        return Costs()


class Adaptive:
    """The number with the most tokens a second, by what steps have taken."""

    def __init__(self) -> None:
        self._cost = StepCost()
        self._draft = StepCost()

    def count(self, odds: Odds, rows: int, most: int) -> int:
        """See Pace."""
        return worth_checking(odds, rows, self._cost.share_a_row(), most)

    def took(self, rows: int, seconds: float) -> None:
        """See Pace."""
        self._cost.add(rows, seconds)

    def drafted(self, rows: int, seconds: float) -> None:
        """See Pace."""
        self._draft.add(rows, seconds)

    def costs(self) -> Costs:
        """See Pace; what was not measured yet is taken for cheap, so that it is tried."""
        row, alone = self._cost.share_a_row(), self._cost.alone_s()
        known = alone > 0 and self._draft.steps > _MEASURED
        draft = self._draft.alone_s() / alone if known else _FIRST_DRAFT
        return Costs(row, draft, draft * self._draft.share_a_row())


class StepCost:
    """Seconds of a step as a straight line of its rows, fitted to what was measured, the latest counting most."""

    def __init__(self) -> None:
        # Sums of 1, rows, rows squared, seconds, seconds x rows.
        self._sums = [0.0, 0.0, 0.0, 0.0, 0.0]
        self.steps = 0

    def add(self, rows: int, seconds: float) -> None:
        """One step that computed no prompt."""
        new = (1.0, rows, rows * rows, seconds, seconds * rows)
        self._sums = [old * _KEPT + one for old, one in zip(self._sums, new, strict=True)]
        self.steps += 1

    def alone_s(self) -> float:
        """Seconds of a step with one row; 0 before the first."""
        count, rows, _, seconds, _ = self._sums
        return seconds / (count + self.share_a_row() * (rows - count)) if count else 0.0

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
