"""A clock that follows a source and tells when it was set."""

from __future__ import annotations

from gateway.admission.steady_clock import JUMP_S, SteadyClock


class Hands:
    """Two clocks, moved by hand."""

    wall_s = 5_000.0
    monotonic_s = 10.0

    def wall(self) -> float:
        return self.wall_s

    def monotonic(self) -> float:
        return self.monotonic_s


def test_it_goes_on_evenly_whatever_the_wall_clock_does() -> None:
    hands = Hands()
    clock = SteadyClock(hands.wall, hands.monotonic)
    hands.wall_s, hands.monotonic_s = 9_000.0, 12.0

    assert clock.now() == 5_002.0


def test_it_follows_its_source_and_tells_of_jumps_in_both_directions() -> None:
    hands = Hands()
    clock = SteadyClock(hands.wall, hands.monotonic)

    assert [clock.set(one) for one in (5_001.0, 5_001.0 + 2 * JUMP_S, 100.0, 100.0)] == [False, True, True, False]
    assert clock.now() == 100.0


def test_without_a_source_it_follows_this_machine() -> None:
    hands = Hands()
    clock = SteadyClock(hands.wall, hands.monotonic)
    hands.wall_s, hands.monotonic_s = 5_060.0, 70.0

    assert clock.set(None) is False
    assert clock.now() == 5_060.0
