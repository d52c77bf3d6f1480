"""What a draft changes, as evidence that may be looked at all the time: bets on nothing but our own coin.

Each unit was put into the canary arm with a known chance p. Of its value y in 0..1 that makes, whatever traffic does,
a term whose expectation is the unit's own effect: (y - c) / p in the canary arm, -(y - c) / (1 - p) in the other, where
c is any guess of y made beforehand (inverse propensity weighting, centred; design-based confidence sequences, Ham,
Bojinov, Lindon & Tingley, arXiv:2210.08639). A gambler bets that the effect is larger than a margin: his capital is a
supermartingale as long as it is not, so that it passes 1 / alpha at any time with probability alpha at most (Ville;
betting on bounded means: Waudby-Smith & Ramdas, arXiv:2010.09686). Traffic may drift, units may resemble each other and
the share may change: only the coin has to be fair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# Shares of what one unit can lose at most; log-spaced, since effects may be small or large. They share the capital.
BETS: Final = np.geomspace(0.003, 0.9, 18)
_STEPS: Final = (0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
_LESS: Final = (0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75)
_MORE: Final = (0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
# Before anything is known of a metric its values are guessed to be small, with the weight of one unit.
_GUESS: Final = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Margins:
    """[D] effects that are tested, sorted; `relative`: as shares of the control's mean, else as differences."""

    values: Doubles
    relative: bool

    @classmethod
    def of(cls, tolerance: float, *, relative: bool) -> Margins:
        """The grid, with 0 and the tolerance exactly in it."""
        steps = [*(-one for one in _LESS), *_MORE] if relative else [sign * one for one in _STEPS for sign in (-1, 1)]
        return cls(np.array(sorted({0.0, float(tolerance), *steps})), relative)

    def at(self, margin: float) -> int:
        """The place of a margin that is in the grid."""
        return int(np.flatnonzero(self.values == margin)[0])


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """Values [N] in 0..1 of units in the order in which they came, their arms, and each one's chance of the canary."""

    values: Doubles
    canary: Flags
    share: Doubles


@dataclass(slots=True, eq=False)
class Wagers:
    """Logarithms [D, K] of the capital of each bet: `up` that the effect is above a margin, `down` that it is below.

    `units` and `total` are of both arms and make the next unit's guess.
    """

    margins: Margins
    up: Doubles
    down: Doubles
    units: float = 1.0
    total: float = _GUESS

    @classmethod
    def begin(cls, margins: Margins) -> Wagers:
        """Nothing is known."""
        shape = (len(margins.values), len(BETS))
        return cls(margins, np.zeros(shape), np.zeros(shape))

    def take(self, units: Units) -> None:
        """Bet on further units; each one's guess is the mean of those before it."""
        values = units.values
        seen = self.units + np.arange(len(values))
        guess = (self.total + np.concatenate([[0.0], np.cumsum(values)[:-1]])) / seen if len(values) else values
        for up, down in _gains(units, guess, self.margins):
            self.up += up
            self.down += down
        self.units += len(values)
        self.total += float(values.sum())

    def above(self, margin: float) -> float:
        """The logarithm of the capital that says: the effect is above this margin of the grid."""
        return float(_mixed(self.up)[self.margins.at(margin)])

    def below(self, margin: float) -> float:
        """Likewise: it is below."""
        return float(_mixed(self.down)[self.margins.at(margin)])

    def interval(self, alpha: float) -> tuple[float, float]:
        """The effect lies between these at all times but with probability `alpha`; infinite where the grid ends."""
        wanted, values = math.log(2 / alpha), self.margins.values
        # What speaks against a margin speaks against all that lie beyond it.
        below = int(np.cumprod(_mixed(self.up) >= wanted).sum())
        above = int(np.cumprod(_mixed(self.down)[::-1] >= wanted).sum())
        low = float(values[below - 1]) if below else -math.inf
        high = float(values[len(values) - above]) if above else math.inf
        return (low, high) if low < high else (math.nan, math.nan)  # effects that change with time: no single one


@dataclass(slots=True, eq=False)
class Coin:
    """Whether the arms have as many units as they should: logarithms [K] of the capital that says that the canary
    arm's are missing (they hang, or get lost), or the control's (Lindon & Malek, arXiv:2011.03567)."""

    missing: Doubles
    surplus: Doubles

    @classmethod
    def begin(cls) -> Coin:
        """Nothing is known."""
        return cls(np.zeros(len(BETS)), np.zeros(len(BETS)))

    def take(self, units: Units) -> None:
        """Bet on the arms of further units."""
        apart = units.share - units.canary
        self.missing += np.log1p(BETS * (apart / (1 - units.share))[:, None]).sum(axis=0)
        self.surplus += np.log1p(BETS * (-apart / units.share)[:, None]).sum(axis=0)

    def canary_missing(self) -> float:
        """The logarithm of the capital."""
        return float(_mixed(self.missing))

    def control_missing(self) -> float:
        """Likewise."""
        return float(_mixed(self.surplus))


_CHUNK: Final = 200


def _gains(units: Units, guess: Doubles, margins: Margins) -> list[tuple[Doubles, Doubles]]:
    """What each bet wins, in parts: sums [D, K] over units of log(1 + bet x term / the most that can be lost)."""
    found = []
    for begun in range(0, len(units.values), _CHUNK):
        part = slice(begun, begun + _CHUNK)
        some = Units(units.values[part], units.canary[part], units.share[part])
        term, low, high = _terms(some, guess[part], margins)
        up = np.log1p(BETS * (term / low)[:, :, None]).sum(axis=0)
        down = np.log1p(BETS * (-term / high)[:, :, None]).sum(axis=0)
        found.append((up, down))
    return found


def _terms(units: Units, guess: Doubles, margins: Margins) -> tuple[Doubles, Doubles, Doubles]:
    """[n, D] terms whose expectation is the effect beyond each margin, and how far below and above 0 they can lie.

    For relative margins the control's part counts (1 + margin) times.
    """
    chance, value, centre = units.share[:, None], units.values[:, None], guess[:, None]
    times = 1 + margins.values if margins.relative else np.ones(len(margins.values))
    beyond = np.zeros(len(times)) if margins.relative else margins.values
    served = (value - times * centre) / chance
    other = -times * (value - centre) / (1 - chance)
    term = np.where(units.canary[:, None], served, other) - beyond
    low = np.maximum(times * centre / chance, times * (1 - centre) / (1 - chance)) + beyond
    high = np.maximum((1 - times * centre) / chance, times * centre / (1 - chance)) - beyond
    return term, low, high


def _mixed(logs: Doubles) -> Doubles:
    """The logarithm of the mean of capitals over the last axis."""
    most = logs.max(axis=-1)
    found: Doubles = most + np.log(np.exp(logs - most[..., None]).mean(axis=-1))
    return found
