"""How hard an endpoint is put to it, by what its calls of the last seconds say. Pure: it is told the time.

1 is as much as can be: every tenth call fails, or a first byte takes four times as long as it usually does.
"""

from __future__ import annotations

from math import exp

# What was seen so long ago counts a third of what is seen now.
RECENT_S = 5.0
# An endpoint that refuses a tenth of its calls is asked for more than it can do.
FULL_FAILED = 0.1
FULL_SLOWER = 4.0
# Of fewer calls one or two say little: with them are counted others that were as they usually are.
LEAST_CALLS = 20.0
# What is usual is the mean of about so long; where an endpoint is slower than this it is learned much more slowly.
USUAL_S = 300.0
SLOW_FROM = 0.5
SLOW_PACE = 0.1


class Strain:
    """One endpoint's. All times are seconds of one monotonic clock."""

    __slots__ = ("_at", "_calls", "_failed", "_ms", "_timed", "_usual_ms", "_usual_weight")

    def __init__(self) -> None:
        self._at = 0.0
        self._calls = self._failed = self._timed = self._ms = 0.0
        self._usual_ms = self._usual_weight = 0.0

    def succeeded(self, now: float, first_byte_ms: float) -> None:
        """A first byte came after so many milliseconds."""
        self._usual_weight *= exp(-self._fade(now) / USUAL_S)
        self._usual_weight += 1
        self._calls += 1
        self._timed += 1
        self._ms += first_byte_ms
        pace = SLOW_PACE if self._slowness(1.0) > SLOW_FROM else 1.0
        self._usual_ms += pace / self._usual_weight * (first_byte_ms - self._usual_ms)

    def failed(self, now: float) -> None:
        """A call was refused, or failed by the endpoint's fault."""
        self._fade(now)
        self._calls += 1
        self._failed += 1

    def calls(self, now: float) -> float:
        """Calls that ended lately; those of `RECENT_S` ago count a third."""
        return self._calls * self._left(now)

    def index(self, now: float) -> float:
        """0 to 1."""
        left = self._left(now)
        failed = self._failed * left / max(self._calls * left, LEAST_CALLS)
        return max(min(failed / FULL_FAILED, 1.0), self._slowness(left))

    def _slowness(self, left: float) -> float:
        if self._usual_ms <= 0:
            return 0.0
        timed = self._timed * left
        missing = max(LEAST_CALLS - timed, 0.0)
        slower = (self._ms * left / self._usual_ms + missing) / (timed + missing)
        return min(max((slower - 1) / (FULL_SLOWER - 1), 0.0), 1.0)

    def _left(self, now: float) -> float:
        return exp(-max(now - self._at, 0.0) / RECENT_S)

    def _fade(self, now: float) -> float:
        """Let what was seen count less; the seconds since then."""
        left = self._left(now)
        self._calls *= left
        self._failed *= left
        self._timed *= left
        self._ms *= left
        since = max(now - self._at, 0.0) if self._at else 0.0
        self._at = now
        return since
