"""How often somebody may fail to log in: by address, within a minute, in this process."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

WITHIN_S: Final = 60.0
MAX_FAILURES: Final = 10
MAX_ADDRESSES: Final = 10_000


class Throttle:
    """After `MAX_FAILURES` failures an address waits until the oldest is `WITHIN_S` old; success forgets them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Seconds until this address may try again; 0: now."""
        failures = self._failures.get(address)
        if failures is None or len(failures) < MAX_FAILURES:
            return 0.0
        return max(failures[0] + WITHIN_S - self._clock(), 0.0)

    def failed(self, address: str) -> None:
        """A wrong key."""
        failures = self._failures.setdefault(address, deque(maxlen=MAX_FAILURES))
        failures.append(self._clock())
        self._failures.move_to_end(address)
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)

    def succeeded(self, address: str) -> None:
        """Somebody who knows a key."""
        self._failures.pop(address, None)
