"""What is timed, and what other processes took meanwhile."""

from __future__ import annotations

import pytest

from benchmarks.runtime.clock import Reading, Stopwatch, between, busy_ticks


def test_busy_ticks_of_all_cores_count_stolen_time_and_leave_out_idle_and_disk_waits() -> None:
    text = "cpu  1 2 4 1000 2000 8 16 32 0 0\ncpu0 7 7 7 7 7 7 7 7 0 0\nintr 5\n"

    assert busy_ticks(text) == 1 + 2 + 4 + 8 + 16 + 32
    with pytest.raises(ValueError, match="all cores"):
        busy_ticks("cpu0 7 7 7 7 7 7 7 7 0 0\n")


def test_others_are_what_the_machine_did_beyond_this_process_a_second() -> None:
    timing = between(Reading(10.0, 1.0, 5.0), Reading(12.0, 3.0, 7.5))

    assert (timing.seconds, timing.other_cores) == (2.0, 0.25)


def test_clocks_of_different_steps_never_make_others_negative() -> None:
    assert between(Reading(0.0, 0.0, 0.0), Reading(1.0, 1.01, 1.0)).other_cores == 0.0


def test_a_stopwatch_measures_from_its_last_start_and_only_when_it_ran() -> None:
    watch = Stopwatch()
    with pytest.raises(ValueError, match="not started"):
        watch.timing()
    watch.start()
    with pytest.raises(ValueError, match="not started and stopped"):
        watch.timing()
    watch.stop()

    assert watch.timing().seconds > 0
    watch.start()
    with pytest.raises(ValueError, match="not started and stopped"):
        watch.timing()
