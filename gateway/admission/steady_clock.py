"""A clock that several machines agree on and that does not jump: a source looked at now and then, and even steps
in between. Knows nothing of what it times."""

from __future__ import annotations

import time
from collections.abc import Callable

# What clocks drift, and answers take, is less.
JUMP_S = 5.0


class SteadyClock:
    """Unix seconds. Until `set` is called, this machine's own clock is the source."""

    def __init__(self, own: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._own = own
        self._monotonic = monotonic
        self._offset = own() - monotonic()
        self.followed = False

    def now(self) -> float:
        """The time, as the source told it last."""
        return self._offset + self._monotonic()

    def set(self, source_s: float | None) -> bool:
        """Follow what the source tells (None: this machine's own clock); whether it has jumped since the last time."""
        self.followed = True
        offset = (self._own() if source_s is None else source_s) - self._monotonic()
        jump, self._offset = offset - self._offset, offset
        return abs(jump) > JUMP_S
