"""Spends a budget evenly: a multiplier of cost that follows what is spent; pure, knows no policy store and no clock.

Online dual descent with an entropic mirror map (Balseiro, Lu and Mirrokni, The best of many worlds: dual mirror descent
for online allocation problems, Operations Research 2023): with x = cost of a call / money per call that is left,

    log multiplier <- clip(log multiplier + step (min(x, 1 / step) - 1), log least, log most),  step = SPEED / sqrt(T).

Bounds, for T calls, a budget of B = rho T, costs up to c and gains up to g a call (docs/experiments/pacing.md derives
them): *violation*: on any stream, of any order, as long as the multiplier is under `most`, what is spent exceeds B by
at most B ln(most) / (SPEED sqrt(T)) with a fixed rho; with the adaptive one used here, and the hard budget that refuses
calls, by nothing. *Regret*: on calls drawn alike and independently the objective falls short of the best fixed
multiplier chosen in hindsight by at most g c / rho + O(sqrt(T)). On adversarial streams no rule can do without loss
(a ratio of c / rho to the optimum is kept); spending stays within the budget all the same.
"""

from __future__ import annotations

import math

# Of the step; chosen on streams of real data (docs/experiments/pacing.md).
SPEED = 2.0
# Calls that a period is taken to have at least and at most, for the step's length.
_FEWEST, _MOST = 100.0, 1e6
# Into how many parts the calls of a period are counted, so that the next one knows when to expect them.
_PARTS = 24
# How much of the last period's calls this one's own must amount to until their ratio is half believed.
_MEMORY = 0.05
# A rush is taken to last for this share of the time that is left.
_RUSH = 0.5


class Pacer:
    """The pace of one budget over periods of equal meaning; money in nano-dollars, time in Unix seconds.

    `share` is the part of all calls that this process sees: it spends its share of what is left. `look` tells how the
    budget stands, whenever that is known; `spend` tells of each call at once, by its forecast cost, so that the
    multiplier moves between two looks.
    """

    def __init__(self, budget: int, least: float = 1.0, most: float = 100.0, share: float = 1.0) -> None:
        if budget <= 0 or not 0 < least <= 1 <= most or not 0 < share <= 1:
            raise ValueError("a pace needs a budget above 0, least in 0..1, most of 1 or more and a share in 0..1")
        self._budget, self._share = budget * share, share
        self._bounds = (math.log(least), math.log(most))
        self._log = self._sum_of_logs = 0.0
        self._start = self._end = 0.0
        self._seen_from = 0.0
        self._calls = 0
        self._part, self._share_of_part = 0, 0.0
        self._seen = [0] * _PARTS
        self._last: list[int] | None = None
        self._money = self._budget
        self._left = 0.0
        self._step = SPEED / math.sqrt(_FEWEST)

    @property
    def multiplier(self) -> float:
        """What the weight of cost is multiplied with now."""
        return math.exp(self._log)

    def look(self, now_s: float, start_s: float, end_s: float, spent: int) -> None:
        """How the budget stands now: all processes have spent so much in the period from `start_s` to `end_s`."""
        if end_s != self._end:
            self._turn(now_s, start_s, end_s)
        passed = min(max((now_s - start_s) / (end_s - start_s), 0.0), 1.0) * _PARTS
        self._part = min(int(passed), _PARTS - 1)
        self._share_of_part = passed - self._part
        self._money = self._budget - spent * self._share
        self._left = self._expected(now_s)
        calls = min(max(self._calls + self._left, _FEWEST), _MOST)
        self._step = SPEED / math.sqrt(calls)

    def refuse(self) -> None:
        """A call came that the budget does not cover."""
        self._count()

    def spend(self, cost: int) -> None:
        """A call was chosen that is forecast to cost so much."""
        self._count()
        if self._money <= 0:
            self._log = self._bounds[1]
            return
        if self._left >= 1:
            ahead = min(cost * self._left / self._money, 1 / self._step)
            low, high = self._bounds
            self._log = min(max(self._log + self._step * (ahead - 1), low), high)
            self._left -= 1
        self._money -= cost

    def _count(self) -> None:
        """A call came; the next period expects as many."""
        self._calls += 1
        self._seen[self._part] += 1
        self._sum_of_logs += self._log

    def _turn(self, now_s: float, start_s: float, end_s: float) -> None:
        """A period begins: when calls came in the last one is kept, and the mean multiplier of them."""
        whole = self._seen_from - self._start <= (self._end - self._start) / _PARTS
        if self._calls and whole and start_s == self._end:
            self._last = self._seen
        self._start, self._end = start_s, end_s
        # A process that starts in the middle of a period has not seen its beginning.
        self._seen_from = now_s if self._last is None else start_s
        if self._calls:
            self._log = self._sum_of_logs / self._calls
        self._calls, self._sum_of_logs, self._seen = 0, 0.0, [0] * _PARTS

    def _expected(self, now_s: float) -> float:
        """Calls to come in this period: by the last one's course, or evenly; more where more come now than so far."""
        watched, remaining = now_s - self._seen_from, max(self._end - now_s, 0.0)
        if self._last is not None:
            before, running = sum(self._last[: self._part]), self._last[self._part]
            passed = before + running * self._share_of_part
            whole = sum(self._last)
            ratio = (self._calls + _MEMORY * whole) / (passed + _MEMORY * whole)
            usual = ratio * (whole - passed)
        else:
            usual = self._calls / watched * remaining if watched > 0 else 0.0
        return max(usual, self._rate(watched) * remaining * _RUSH)

    def _rate(self, watched: float) -> float:
        """Calls per second in this part of the period and the one before, as far as they were watched."""
        width = (self._end - self._start) / _PARTS
        recent = self._seen[self._part] + (self._seen[self._part - 1] if self._part else 0)
        seconds = min((self._share_of_part + (self._part > 0)) * width, watched)
        return recent / seconds if seconds > 0 else 0.0
