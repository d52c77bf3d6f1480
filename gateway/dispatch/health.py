"""What recent calls say about each endpoint: latency, calls in flight, and whether its breaker lets calls pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.dispatch.breaker import Breaker, Entry, State
from gateway.dispatch.strain import Strain

SMOOTHING = 0.2
# A normal tail: 5 % of calls take longer than the mean and 1.645 standard deviations, 1.25 mean deviations each.
P95_DEVIATIONS = 2.06
# What was seen long ago counts less: an endpoint that was slow then is given another chance.
FORGET_HALF_IN_S = 30.0

Told = Callable[[str, float], None]


@dataclass(slots=True)
class Vitals:
    """One endpoint as this process sees it; `deviation_ms` is the smoothed distance from `latency_ms`."""

    latency_ms: float | None = None
    deviation_ms: float = 0.0
    seen_at: float = 0.0
    in_flight: int = 0
    breaker: Breaker = field(default_factory=Breaker)
    strain: Strain = field(default_factory=Strain)

    def p95_ms(self) -> float:
        """What 19 of 20 first bytes take at most, roughly; 0 before the first success."""
        return 0.0 if self.latency_ms is None else self.latency_ms + P95_DEVIATIONS * self.deviation_ms


class Health:
    """Passive health of all endpoints; nobody is called to find out. `now` is a monotonic clock in seconds.

    `told`, where set, hears of every pause that begins (endpoint, seconds) and ends (endpoint, 0).
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._seen: dict[str, Vitals] = {}
        self.told: Told | None = None

    def of(self, endpoint_id: str) -> Vitals:
        """What is known of an endpoint."""
        seen = self._seen.get(endpoint_id)
        if seen is None:
            seen = self._seen[endpoint_id] = Vitals()
        return seen

    def enter(self, vitals: Vitals) -> Entry:
        """A call is about to be made; see `Breaker.enter`."""
        return vitals.breaker.enter(self._now())

    def succeeded(self, endpoint_id: str, first_byte_ms: float) -> None:
        """A first byte came after so many milliseconds."""
        seen, now = self.of(endpoint_id), self._now()
        old = seen.latency_ms
        if old is None:
            seen.latency_ms, seen.deviation_ms = first_byte_ms, first_byte_ms / 2
        else:
            seen.latency_ms = old + SMOOTHING * (first_byte_ms - old)
            seen.deviation_ms += SMOOTHING * (abs(first_byte_ms - old) - seen.deviation_ms)
        seen.seen_at = now
        seen.strain.succeeded(now, first_byte_ms)
        if seen.breaker.succeeded(now) and self.told is not None:
            self.told(endpoint_id, 0.0)

    def alive(self, endpoint_id: str) -> None:
        """An endpoint answered, though not with what was wanted: nothing is learned of its latency."""
        if self.of(endpoint_id).breaker.succeeded(self._now()) and self.told is not None:
            self.told(endpoint_id, 0.0)

    def failed(self, endpoint_id: str, retry_after_s: float | None = None) -> bool:
        """A call failed; an upstream that says when to come back is believed, up to a bound.

        Whether that is news: the first failure, or one that begins a pause. Calls that are made in spite of a pause
        (nothing else is left, or the model is pinned) do not lengthen it.
        """
        seen, now = self.of(endpoint_id), self._now()
        breaker = seen.breaker
        seen.strain.failed(now)
        suspect = breaker.is_suspect
        paused = breaker.failed(now, retry_after_s)
        if paused and self.told is not None:
            self.told(endpoint_id, breaker.paused_s(now))
        return paused or (breaker.is_suspect and not suspect)

    def paused_s(self, endpoint_id: str) -> float:
        """Seconds until the endpoint is tried again; 0 when it is healthy."""
        seen = self._seen.get(endpoint_id)
        return seen.breaker.paused_s(self._now()) if seen is not None else 0.0

    def latency_ms(self, endpoint_id: str) -> float | None:
        """Smoothed milliseconds to the first byte, None before the first success."""
        seen = self._seen.get(endpoint_id)
        return seen.latency_ms if seen else None

    def loads(self, endpoints: Sequence[Vitals]) -> list[float]:
        """How busy each of some endpoints of one model is: milliseconds to a first byte x (calls in flight + 1).

        What was seen long ago nears the best of them, and one that was never asked is taken to be as good.
        """
        now, best = self._now(), None
        for one in endpoints:
            if one.latency_ms is not None and (best is None or one.latency_ms < best):
                best = one.latency_ms
        if best is None:
            return [one.in_flight + 1.0 for one in endpoints]
        loads = []
        for one in endpoints:
            latency = best
            if one.latency_ms is not None and one.latency_ms > best:
                latency += (one.latency_ms - best) * 0.5 ** ((now - one.seen_at) / FORGET_HALF_IN_S)
            loads.append(latency * (one.in_flight + 1))
        return loads

    def in_state(self, state: State) -> dict[str, float]:
        """For metrics: of every endpoint that was called, 1 where its breaker is in this state, else 0."""
        now = self._now()
        return {endpoint_id: float(seen.breaker.state(now) is state) for endpoint_id, seen in self._seen.items()}

    def adopt(self, paused: Mapping[str, float]) -> None:
        """What other workers say: the endpoints they have paused, in seconds left; all others they have not."""
        now = self._now()
        for endpoint_id, seen in self._seen.items():
            if endpoint_id not in paused:
                seen.breaker.release(now)
        for endpoint_id, pause_s in paused.items():
            self.of(endpoint_id).breaker.adopt(now, pause_s)
