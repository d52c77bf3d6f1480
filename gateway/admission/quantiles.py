"""An upper quantile of lately seen ratios with a finite-sample guarantee, in little memory. Pure.

Of n exchangeable ratios the ceil((n + 1) q)-th smallest is not exceeded by the next one with probability at least q:
split conformal prediction (Vovk, Gammerman, Shafer 2005, Algorithmic Learning in a Random World; Lei et al. 2018,
Distribution-Free Predictive Inference for Regression). Ratios are kept as a histogram with bins of equal relative
width, and a bin's upper edge stands for all in it, which errs upwards. A ratio of which only a lower bound was seen
counts as at risk up to there and no further (Kaplan and Meier 1958); without such ratios that is the same rank.
"""

from __future__ import annotations

from array import array
from math import ceil, log2
from typing import Final

# Below so many ratios the value follows each one, above it every 32nd.
_OFTEN: Final = 64
_EVERY: Final = 32


class UpperQuantile:
    """`value` is the quantile `level`, `outer` (where `outer_start` is given) the quantile `OUTER`, of the last
    `window` to twice `window` ratios between `lowest` and `lowest * 2**octaves`.

    Until `trusted` ratios are there they are never below their start. Where even the largest are only lower bounds, the
    answer is half as much again as the largest, so that the next ones show more.
    """

    __slots__ = (
        "_bins",
        "_level",
        "_lowest",
        "_new",
        "_outer_start",
        "_start",
        "_steps",
        "_trusted",
        "_unread",
        "_window",
        "count",
        "outer",
        "value",
    )
    GROWTH: Final = 1.5
    OUTER: Final = 0.99

    def __init__(
        self,
        level: float,
        start: float,
        *,
        outer_start: float | None = None,
        lowest: float = 1 / 64,
        octaves: int = 12,
        steps: int = 8,
        window: int = 512,
        trusted: int = 30,
    ) -> None:
        self._level = level
        self._start = start
        self._outer_start = outer_start
        self._lowest = lowest
        self._steps = steps
        self._window = window
        self._trusted = trusted
        bins = octaves * steps + 1
        # This generation's and the last one's counts of ratios seen whole, then of lower bounds.
        self._bins = [array("H", bytes(2 * bins)) for _ in range(4)]
        self._new = 0  # how many this generation has
        self.count = 0  # how many speak now
        self._unread = 0
        self.value = start
        self.outer = start if outer_start is None else outer_start

    def add(self, ratio: float, at_least: bool = False) -> None:
        """Take in a ratio above 0; `at_least`: it was cut off there and would have been larger."""
        place = ceil(log2(ratio / self._lowest) * self._steps - 1e-9) if ratio > self._lowest else 0
        if self._new >= self._window:
            self._turn()
        counts = self._bins[2 if at_least else 0]
        counts[min(place, len(counts) - 1)] += 1
        self._new += 1
        self.count += 1
        self._unread += 1
        if self._unread >= _EVERY or self.count < _OFTEN:
            self._unread = 0
            self.value = self._quantile(self._level, self._start)
            if self._outer_start is not None:
                self.outer = max(self._quantile(self.OUTER, self._outer_start), self.value)

    def _turn(self) -> None:
        """Forget the older generation."""
        new, old, new_cut, old_cut = self._bins
        for counts in (old, old_cut):
            counts[:] = array("H", bytes(2 * len(counts)))
        self._bins = [old, new, old_cut, new_cut]
        self._new, self.count = 0, self._new

    def _quantile(self, level: float, start: float) -> float:
        total = self.count
        rank = ceil((total + 1) * level - 1e-9)
        found = self._edge(rank / total, total)
        return max(found, start) if total < self._trusted or rank > total else found

    def _edge(self, share: float, at_risk: int) -> float:
        """The upper edge of the first bin up to which `share` of the ratios lie, as far as can be known."""
        beyond, largest = 1.0, 0
        new, old, new_cut, old_cut = self._bins
        for place in range(len(new)):
            exact, cut = new[place] + old[place], new_cut[place] + old_cut[place]
            if exact or cut:
                largest = place
                beyond *= 1 - exact / at_risk
                if 1 - beyond >= share - 1e-9:
                    return self._upper(place)
                at_risk -= exact + cut
        # Nothing larger was seen whole: either too few ratios (`rank > total`), or the largest were cut off.
        grown = self._upper(largest) * (self.GROWTH if beyond > 1e-9 else 1.0)
        return min(grown, self._upper(len(new) - 1))

    def _upper(self, place: int) -> float:
        return float(self._lowest * 2 ** (place / self._steps))
