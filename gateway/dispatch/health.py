"""What recent calls say about each endpoint: smoothed latency, and a pause after failures in a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

SMOOTHING = 0.2
FAILURES_TO_PAUSE = 3
PAUSE_S = 10.0
LONGEST_PAUSE_S = 120.0


@dataclass(slots=True)
class _Seen:
    latency_ms: float | None = None
    failures: int = 0
    paused_until: float = 0.0


class Health:
    """Passive health of this process' endpoints. Three failures in a row pause an endpoint; each further failure
    doubles the pause, the first success ends it. `now` is a monotonic clock in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._seen: dict[str, _Seen] = {}

    def succeeded(self, endpoint_id: str, first_byte_ms: float) -> None:
        """A first byte came after so many milliseconds."""
        seen = self._of(endpoint_id)
        old = seen.latency_ms
        seen.latency_ms = first_byte_ms if old is None else old + SMOOTHING * (first_byte_ms - old)
        seen.failures = 0
        seen.paused_until = 0.0

    def failed(self, endpoint_id: str, retry_after_s: float | None = None) -> bool:
        """A call failed; an upstream that says when to come back is believed, up to a bound.

        Whether that is news: the first failure, or one that begins a pause. Calls that are made in spite of a pause
        (nothing else is left, or the model is pinned) do not lengthen it.
        """
        seen = self._of(endpoint_id)
        if seen.paused_until > self._now():
            return False
        seen.failures += 1
        pause = 0.0
        if seen.failures >= FAILURES_TO_PAUSE:
            pause = PAUSE_S * 2.0 ** min(seen.failures - FAILURES_TO_PAUSE, 10)
        pause = min(max(pause, retry_after_s or 0.0), LONGEST_PAUSE_S)
        if pause:
            seen.paused_until = self._now() + pause
        return seen.failures == 1 or pause > 0

    def paused_s(self, endpoint_id: str) -> float:
        """Seconds until the endpoint is tried again; 0 when it is healthy."""
        seen = self._seen.get(endpoint_id)
        return max(seen.paused_until - self._now(), 0.0) if seen and seen.paused_until else 0.0

    def latency_ms(self, endpoint_id: str) -> float | None:
        """Smoothed milliseconds to the first byte, None before the first success."""
        seen = self._seen.get(endpoint_id)
        return seen.latency_ms if seen else None

    def _of(self, endpoint_id: str) -> _Seen:
        seen = self._seen.get(endpoint_id)
        if seen is None:
            seen = self._seen[endpoint_id] = _Seen()
        return seen
