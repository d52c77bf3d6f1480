"""Guesses from repetitions, and how many of them are worth checking."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_runtime.decoding.base import History
from local_runtime.decoding.drafts import Odds, Outcomes, PromptLookup
from local_runtime.decoding.pace import Adaptive, Fixed, StepCost, worth_checking


def guess(prompt: list[int], said: list[int], most: int = 4) -> list[int] | None:
    draft = PromptLookup(History(prompt, said)).draft(most)
    return None if draft is None else list(draft.tokens)


def test_what_followed_the_last_tokens_before_is_guessed() -> None:
    assert guess([1, 2, 3, 4, 5, 9], [1, 2]) == [3, 4, 5, 9]


def test_of_several_places_the_longest_repetition_counts_and_then_the_latest() -> None:
    assert guess([7, 1, 2, 3, 4, 60, 3, 4, 70], [1, 2, 3, 4], most=1) == [60]
    assert guess([3, 4, 60, 3, 4, 70], [3, 4], most=1) == [70]


def test_a_repetition_that_runs_into_the_present_goes_round() -> None:
    assert guess([1, 2, 1, 2, 1, 2], [1], most=5) == [2, 1, 2, 1, 2]


@pytest.mark.parametrize(("prompt", "said"), [([1], []), ([1, 2, 3], [4]), ([1, 2, 3], [3, 2])])
def test_where_nothing_repeats_nothing_is_guessed(prompt: list[int], said: list[int]) -> None:
    assert guess(prompt, said) is None


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.lists(st.integers(0, 3), max_size=40))
def test_guesses_do_not_depend_on_how_often_one_has_asked(prompt: list[int], said: list[int]) -> None:
    history = History(prompt)
    asked = PromptLookup(history)
    for token in said:
        asked.draft(3)
        history.generated.append(token)

    again, fresh = asked.draft(5), PromptLookup(history).draft(5)

    assert (again and (list(again.tokens), again.kind)) == (fresh and (list(fresh.tokens), fresh.kind))


def test_what_comes_true_is_believed_more_and_what_does_not_less() -> None:
    outcomes = Outcomes()
    before = outcomes.odds(2)
    for _ in range(10):
        outcomes.add(2, accepted=4, drafted=4)
    after = outcomes.odds(2)
    for _ in range(20):
        outcomes.add(2, accepted=0, drafted=4)
    last = outcomes.odds(2)

    assert last.first < 0.2 < before.first < 0.8 < after.first
    assert last.further == after.further > 0.9
    assert outcomes.odds(3) == Outcomes().odds(3)


def test_whether_a_repetition_begins_and_whether_it_goes_on_are_two_questions() -> None:
    outcomes = Outcomes()
    for accepted in (0, 0, 5) * 10:
        outcomes.add(0, accepted, drafted=5)

    assert outcomes.odds(0).first < 0.6 and outcomes.odds(0).further > 0.95


def test_a_straight_line_is_found_in_what_steps_took() -> None:
    cost = StepCost()
    assert cost.share_a_row() == 0.25
    for rows in [1, 8, 2, 5, 1, 8, 3, 8, 1] * 20:
        cost.add(rows, 0.003 + 0.0003 * (rows - 1))

    assert cost.share_a_row() == pytest.approx(0.1, rel=0.01)


@given(st.lists(st.tuples(st.integers(1, 40), st.floats(1e-5, 10)), max_size=50))
def test_a_row_more_costs_something_and_not_more_than_a_step(steps: list[tuple[int, float]]) -> None:
    cost = StepCost()
    for rows, seconds in steps:
        cost.add(rows, seconds)

    assert 0.02 <= cost.share_a_row() <= 1


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 20), st.floats(0.02, 1), st.integers(0, 12))
def test_no_other_number_of_guesses_promises_more_tokens_a_second(
    first: float, further: float, rows: int, share: float, most: int
) -> None:
    def rate(count: int) -> float:
        expected = rows + sum(first * further**i for i in range(count))
        return expected / (1 + share * (rows + count - 1))

    chosen = worth_checking(Odds(first, further), rows, share, most)

    assert 0 <= chosen <= most
    if chosen:
        assert rate(chosen) >= max(rate(count) for count in range(most + 1)) * (1 - 1e-9)
    else:
        assert rate(0) * 1.03 >= max(rate(count) for count in range(most + 1)) * (1 - 1e-9)


def test_a_fixed_pace_is_fixed_and_an_adaptive_one_learns_what_steps_cost() -> None:
    adaptive = Adaptive()
    at_first = adaptive.count(Odds(0.6, 0.6), 1, 7)
    for rows in [1, 4, 8] * 50:
        adaptive.took(rows, 0.001 * rows)

    assert [Fixed(3).count(Odds(0.01, 0), 1, 7), Fixed(9).count(Odds(0.9, 0.9), 1, 7)] == [3, 7]
    assert at_first > 0 == adaptive.count(Odds(0.6, 0.6), 1, 7)
