"""One endpoint's breaker, told the time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch.breaker import (
    CALLS_TO_JUDGE,
    FAILURES_TO_OPEN,
    LONGEST_PAUSE_S,
    LONGEST_TRIAL_S,
    PAUSE_S,
    TRIAL_WAIT_S,
    VERDICT_S,
    WINDOW_S,
    Breaker,
    Entry,
    State,
)

NOW = 1000.0


def opened() -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed(NOW)
    return breaker


def fail_every_second_call(breaker: Breaker, calls: int, now: float = NOW) -> bool:
    """Whether that opened it."""
    opened_it = False
    for call in range(calls):
        opened_it = (breaker.succeeded(now) if call % 2 else breaker.failed(now)) or opened_it
    return opened_it


def test_half_open_lets_one_call_at_a_time_try() -> None:
    breaker, later = opened(), NOW + PAUSE_S

    assert breaker.enter(NOW) is Entry.BARRED
    assert [breaker.enter(later) for _ in range(3)] == [Entry.TRIAL, Entry.BARRED, Entry.BARRED]
    assert breaker.paused_s(later) == TRIAL_WAIT_S
    breaker.give_up()
    assert (breaker.paused_s(later), breaker.enter(later)) == (0.0, Entry.TRIAL)


def test_a_trial_that_succeeds_closes_and_one_that_fails_doubles_the_pause() -> None:
    breaker, later = opened(), NOW + PAUSE_S
    breaker.enter(later)

    assert breaker.failed(later)
    assert breaker.paused_s(later) == 2 * PAUSE_S
    breaker.enter(later + 2 * PAUSE_S)
    assert breaker.succeeded(later + 2 * PAUSE_S)
    assert breaker.state(later + 2 * PAUSE_S) is State.CLOSED


def test_a_trial_that_never_came_back_does_not_bar_the_way_for_ever() -> None:
    breaker, later = opened(), NOW + PAUSE_S
    breaker.enter(later)

    assert breaker.enter(later + LONGEST_TRIAL_S) is Entry.TRIAL


def test_half_of_many_calls_failing_opens_though_never_three_in_a_row() -> None:
    breaker = Breaker()

    assert not fail_every_second_call(breaker, CALLS_TO_JUDGE - 1)
    assert fail_every_second_call(breaker, 2)
    assert breaker.state(NOW) is State.OPEN


def test_a_late_success_disproves_failures_in_a_row_but_not_a_rate() -> None:
    by_row, by_rate = opened(), Breaker()
    fail_every_second_call(by_rate, CALLS_TO_JUDGE + 1)

    assert by_row.succeeded(NOW)
    assert not by_rate.succeeded(NOW)
    assert (by_row.state(NOW), by_rate.state(NOW)) == (State.CLOSED, State.OPEN)


@pytest.mark.parametrize(("gap_s", "opens"), [(WINDOW_S / 2, True), (WINDOW_S, False)])
def test_failures_of_long_ago_are_not_counted(gap_s: float, opens: bool) -> None:
    breaker = Breaker()
    fail_every_second_call(breaker, CALLS_TO_JUDGE - 1)

    assert fail_every_second_call(breaker, 2, NOW + gap_s) is opens


def test_being_told_to_wait_is_a_pause_and_no_fault() -> None:
    breaker = Breaker()
    for turn in range(10):
        assert breaker.failed(NOW + 10 * turn, retry_after_s=7)

    assert breaker.paused_s(NOW + 90) == 7
    assert breaker.state(NOW + 97) is State.CLOSED
    assert not breaker.is_suspect


def test_a_success_meanwhile_does_not_shorten_the_wait_that_was_asked_for() -> None:
    breaker = Breaker()
    breaker.failed(NOW, retry_after_s=7)

    breaker.succeeded(NOW + 1)

    assert breaker.paused_s(NOW + 1) == 6


def test_another_workers_pause_is_adopted_with_time_for_its_verdict() -> None:
    breaker = Breaker()
    breaker.adopt(NOW, 10)

    assert breaker.paused_s(NOW) == 10 + VERDICT_S
    assert not breaker.succeeded(NOW)
    assert breaker.enter(NOW + 10 + VERDICT_S) is Entry.TRIAL


def test_an_adopted_pause_ends_when_the_other_worker_says_so_but_not_when_it_runs_out_there() -> None:
    early, late = Breaker(), Breaker()
    early.adopt(NOW, 10)
    late.adopt(NOW, 10)

    early.release(NOW + 5)
    late.release(NOW + 10)

    assert early.state(NOW + 5) is State.CLOSED
    assert late.state(NOW + 10) is State.OPEN


def test_own_judgement_stands_against_what_others_say() -> None:
    own, waiting = opened(), Breaker()
    waiting.failed(NOW, retry_after_s=3)

    for breaker in (own, waiting):
        breaker.adopt(NOW, 99)
        breaker.release(NOW)

    assert (own.paused_s(NOW), waiting.paused_s(NOW)) == (PAUSE_S, 3)


STEPS = st.lists(
    st.tuples(st.sampled_from(["ok", "bad", "wait", "enter", "give_up", "adopt", "release"]), st.floats(0, 60)),
    max_size=60,
)


@given(steps=STEPS)
def test_whatever_happens_calls_pass_again_after_the_longest_pause(steps: list[tuple[str, float]]) -> None:
    breaker, now = Breaker(), NOW
    for act, pause_s in steps:
        now += pause_s
        match act:
            case "ok":
                breaker.succeeded(now)
            case "bad":
                breaker.failed(now)
            case "wait":
                breaker.failed(now, retry_after_s=1e9)
            case "adopt":
                breaker.adopt(now, LONGEST_PAUSE_S)
            case "enter":
                breaker.enter(now)
            case "give_up":
                breaker.give_up()
            case _:
                breaker.release(now)
        assert 0 <= breaker.paused_s(now) < LONGEST_PAUSE_S + VERDICT_S + 0.001

    assert breaker.enter(now + LONGEST_PAUSE_S + LONGEST_TRIAL_S + VERDICT_S) is not Entry.BARRED
