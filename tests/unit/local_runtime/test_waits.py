"""How long a prompt would wait for its turn."""

from __future__ import annotations

import pytest

from local_runtime.waits import Waits


def measured() -> Waits:
    waits = Waits()
    waits.step(read=100, rows=100, seconds=1.0)
    waits.answered(10.0)
    return waits


def test_before_anything_was_measured_nothing_is_expected() -> None:
    assert Waits().expected_s(1, [5.0], 1000, 7) == 0


def test_with_a_place_free_only_prompts_that_are_being_read_come_before() -> None:
    assert measured().expected_s(2, [1.0], 50, 0) == pytest.approx(0.5)
    assert measured().expected_s(2, [1.0], 0, 0) == 0


def test_the_next_place_is_the_one_that_has_been_taken_longest() -> None:
    assert measured().expected_s(2, [1.0, 7.0], 0, 0) == pytest.approx(3.0)
    assert measured().expected_s(2, [1.0, 7.0], 0, 1) == pytest.approx(9.0)


def test_each_round_of_places_takes_an_answer() -> None:
    assert measured().expected_s(2, [1.0, 7.0], 0, 2) == pytest.approx(13.0)


def test_an_answer_that_takes_longer_than_usual_is_expected_to_end_soon() -> None:
    assert measured().expected_s(1, [25.0], 0, 0) == pytest.approx(1.0)


def test_those_that_will_enter_now_stay_as_long_as_an_answer() -> None:
    assert measured().expected_s(2, [], 0, 2) == pytest.approx(10.0)


def test_a_step_is_shared_by_what_it_reads_and_writes() -> None:
    waits = Waits()
    waits.step(read=30, rows=40, seconds=4.0)

    assert waits.expected_s(1, [], 10, 0) == pytest.approx(1.0)


def test_what_is_seen_now_counts_more_than_what_was_seen() -> None:
    waits = Waits()
    for seconds in [1.0] * 50 + [3.0] * 50:
        waits.answered(seconds)

    assert waits.expected_s(1, [0.0], 0, 0) == pytest.approx(3.0, rel=0.1)
