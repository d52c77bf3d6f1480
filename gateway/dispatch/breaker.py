"""A circuit breaker for one endpoint: when calls stop, and how they begin again. Pure: it is told the time."""

from __future__ import annotations

from enum import StrEnum

FAILURES_TO_OPEN = 3
PAUSE_S = 10.0
LONGEST_PAUSE_S = 120.0
# An endpoint that fails every second call never fails three times in a row for long: its rate tells.
WINDOW_S = 30.0
CALLS_TO_JUDGE = 20
SHARE_TO_OPEN = 0.5
# While a trial runs the others look elsewhere; one that never came back is forgotten.
TRIAL_WAIT_S = 1.0
LONGEST_TRIAL_S = 120.0
# Whoever adopts a pause from another worker waits a little longer, so that one trial tells all workers.
VERDICT_S = 2.0


class State(StrEnum):
    """As everywhere: closed lets calls pass, open does not, half-open lets one at a time try."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Entry(StrEnum):
    """What a call is to the breaker."""

    FREE = "free"
    TRIAL = "trial"
    BARRED = "barred"


class Breaker:
    """Opens after three failures in a row, or when half of at least 20 recent calls failed. All times are seconds of
    one monotonic clock.

    Half-open, one call at a time tries: its success closes, its failure doubles the pause (up to two minutes). A
    pause that the upstream asked for (Retry-After) is no fault: it ends by itself and counts as nothing.
    """

    __slots__ = ("_adopted", "_by_rate", "_failures", "_pauses", "_trial_since", "_tripped", "_until", "_window")

    def __init__(self) -> None:
        self._failures = 0
        self._pauses = 0
        self._until = 0.0
        self._tripped = False
        self._by_rate = False
        self._adopted = False
        self._trial_since: float | None = None
        self._window = _Window()

    def state(self, now: float) -> State:
        """What calls meet."""
        if self._until > now:
            return State.OPEN
        return State.HALF_OPEN if self._tripped else State.CLOSED

    def paused_s(self, now: float) -> float:
        """Seconds for which other endpoints should be asked; 0 where calls may pass."""
        if self._until > now:
            return self._until - now
        return TRIAL_WAIT_S if self._tripped and self._on_trial(now) else 0.0

    def enter(self, now: float) -> Entry:
        """A call is about to be made. Whoever got TRIAL must tell how it ended, or `give_up`."""
        if not self._tripped and self._until <= now:
            return Entry.FREE
        if self._until > now or self._on_trial(now):
            return Entry.BARRED
        self._trial_since = now
        return Entry.TRIAL

    def give_up(self) -> None:
        """The trial ended without a verdict; another may begin."""
        self._trial_since = None

    def succeeded(self, now: float) -> bool:
        """A call succeeded; whether that closed the breaker.

        While it is open a success that comes late disproves failures in a row, but neither a rate nor others' word.
        """
        self._failures = 0
        self._window.count(now, failed=False)
        if not self._tripped or (self._until > now and (self._by_rate or self._adopted)):
            return False
        self._close()
        return True

    def failed(self, now: float, retry_after_s: float | None = None) -> bool:
        """A call failed; whether that began a pause. Failures of calls made in spite of one change nothing."""
        if self._until > now:
            return False
        self._trial_since = None
        if retry_after_s:
            self._until = now + min(retry_after_s, LONGEST_PAUSE_S)
            return True
        self._failures += 1
        self._window.count(now, failed=True)
        if self._tripped:
            self._pauses += 1
        elif self._failures >= FAILURES_TO_OPEN or self._window.is_bad(now):
            self._by_rate = self._failures < FAILURES_TO_OPEN
        else:
            return False
        self._tripped, self._adopted = True, False
        self._until = now + min(PAUSE_S * 2.0 ** min(self._pauses, 10), LONGEST_PAUSE_S)
        return True

    @property
    def is_suspect(self) -> bool:
        """Whether the last call failed."""
        return self._failures > 0

    def adopt(self, now: float, pause_s: float) -> None:
        """Another worker has opened its breaker for so much longer; our own judgement stands where we have one."""
        if not self._adopted and (self._tripped or self._until > now):
            return
        self._tripped, self._adopted = True, True
        self._until = now + pause_s + VERDICT_S

    def release(self, now: float) -> None:
        """No other worker has its breaker open any more; one whose pause has just run out is about to try."""
        if self._adopted and self._until - now > VERDICT_S:
            self._close()

    def _close(self) -> None:
        self._failures = self._pauses = 0
        self._until = 0.0
        self._tripped = self._by_rate = self._adopted = False
        self._trial_since = None
        self._window.forget()

    def _on_trial(self, now: float) -> bool:
        return self._trial_since is not None and now - self._trial_since < LONGEST_TRIAL_S


class _Window:
    """Calls and failures of about the last 30 seconds: the present half and the one before it."""

    __slots__ = ("_began", "_calls", "_failures", "_old_calls", "_old_failures")

    def __init__(self) -> None:
        self._began = 0.0
        self.forget()

    def forget(self) -> None:
        self._calls = self._failures = self._old_calls = self._old_failures = 0

    def count(self, now: float, failed: bool) -> None:
        if now - self._began >= WINDOW_S / 2:
            self._turn(now)
        self._calls += 1
        self._failures += failed

    def is_bad(self, now: float) -> bool:
        """Whether enough calls failed to judge by; call after `count`."""
        calls = self._calls + self._old_calls
        return calls >= CALLS_TO_JUDGE and self._failures + self._old_failures >= SHARE_TO_OPEN * calls

    def _turn(self, now: float) -> None:
        fresh = now - self._began < WINDOW_S
        self._old_calls, self._old_failures = (self._calls, self._failures) if fresh else (0, 0)
        self._calls = self._failures = 0
        self._began = now
