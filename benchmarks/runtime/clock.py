"""Times a stretch of work and says how many cores other processes used meanwhile (Linux)."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


def busy_ticks(stat: str) -> int:
    """Ticks that all cores together were busy or stolen by the host, in the text of /proc/stat; disk waits are idle."""
    for line in stat.splitlines():
        name, _, values = line.partition(" ")
        if name == "cpu":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, values.split()[:8])
            return user + nice + system + irq + softirq + steal
    raise ValueError("/proc/stat has no line for all cores")


@dataclass(frozen=True, slots=True)
class Reading:
    """Clock, CPU time of this process with all its threads, and of the whole machine; seconds."""

    at_s: float
    own_s: float
    busy_s: float


@dataclass(frozen=True, slots=True)
class Timing:
    """How long something took, and the CPU time of other processes a second (0.0: none, 1.0: one core)."""

    seconds: float
    other_cores: float


def read() -> Reading:
    """Read now. The machine's CPU time advances in steps of one tick (usually 10 ms)."""
    stat = Path("/proc/stat").read_text()
    return Reading(time.perf_counter(), time.process_time(), busy_ticks(stat) * TICK_S)


def between(before: Reading, after: Reading) -> Timing:
    """The time from one reading to a later one of the same process."""
    seconds = after.at_s - before.at_s
    others_s = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    return Timing(seconds, max(others_s, 0.0) / seconds)


class Stopwatch:
    """Started and stopped by the work itself, so that preparation is left out."""

    def __init__(self) -> None:
        self._started: Reading | None = None
        self._stopped: Reading | None = None

    def start(self) -> None:
        """Begin; what was measured before is forgotten."""
        self._started, self._stopped = read(), None

    def stop(self) -> None:
        """End."""
        self._stopped = read()

    def timing(self) -> Timing:
        """What was measured; ValueError where it was not started and stopped."""
        if self._started is None or self._stopped is None:
            raise ValueError("the stopwatch was not started and stopped")
        return between(self._started, self._stopped)
