"""How loaded a group of endpoints is, with what keeps that from changing to and fro. Pure: it is told the time.

Load is the mean of the endpoints' strain, each by the calls that it got lately, so that neither one that nobody asks
nor one whose calls others take over counts for much. Where all of them are paused it is 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.dispatch.health import Vitals

# The level rises from here on, to 1 at full load ...
BUSY_FROM = 0.7
# ... and falls where load has been less than this ...
BUSY_UNTIL = 0.5
# ... for so many seconds, over so many.
HELD_S = 10.0
FALLS_IN_S = 20.0


def index(endpoints: Iterable[Vitals], now: float) -> float:
    """0 (idle, or nobody was asked lately) to 1."""
    strained, calls, paused, others = 0.0, 0.0, 0, 0
    for one in endpoints:
        if one.breaker.paused_s(now):
            paused += 1
            continue
        others += 1
        weight = one.strain.calls(now)
        strained += weight * one.strain.index(now)
        calls += weight
    if not others:
        return 1.0 if paused else 0.0
    return strained / calls if calls else 0.0


@dataclass(slots=True)
class Level:
    """How far policies have adapted to a group's load: 0 not at all, 1 wholly. `busy` from the moment that load passes
    `BUSY_FROM` until the level has fallen to 0 again."""

    value: float = 0.0
    busy: bool = False
    at: float = 0.0
    calm_since: float | None = None

    def heed(self, load: float, now: float) -> float:
        """The level under this load."""
        fallen_s = max(now - self.at, 0.0)
        self.at = now
        if load >= BUSY_FROM:
            self.busy, self.calm_since = True, None
            self.value = max(self.value, min((load - BUSY_FROM) / (1 - BUSY_FROM), 1.0))
        elif load >= BUSY_UNTIL:
            self.calm_since = None
        elif self.busy:
            if self.calm_since is None:
                self.calm_since = now
            if now - self.calm_since >= HELD_S:
                since_held = now - self.calm_since - HELD_S
                self.value = max(self.value - min(fallen_s, since_held) / FALLS_IN_S, 0.0)
                self.busy = self.value > 0
        return self.value
