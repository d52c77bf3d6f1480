"""Leads, and when they are decisive."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.strategies.tally import is_decisive, lead_of, majority_probability, votes_needed


def test_most_votes_lead_then_weight_then_who_came_first() -> None:
    assert lead_of(["a", "b", "b"], [1, 0, 0]).place == 1
    assert lead_of(["a", "b"], [0.1, 0.2]).place == 1
    assert lead_of(["a", "b"], [0.2, 0.2]).place == 0


def test_nobody_leads_without_votes() -> None:
    with pytest.raises(ValueError, match="nobody"):
        lead_of([], [])


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=9))
def test_the_counts_are_those_of_the_two_most_frequent(votes: list[str]) -> None:
    lead = lead_of(votes, [0.0] * len(votes))

    counts = [count for _, count in Counter(votes).most_common(2)]
    assert (lead.votes, lead.runner_up) == (counts[0], counts[1] if len(counts) > 1 else 0)


@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=8), st.lists(st.sampled_from("abcd"), min_size=0, max_size=8)
)
def test_a_lead_that_is_certain_is_never_overtaken(seen: list[str], rest: list[str]) -> None:
    before = lead_of(seen, [0.0] * len(seen))

    if is_decisive(before.votes, before.runner_up, len(rest), confidence=1.0):
        after = lead_of([*seen, *rest], [0.0] * (len(seen) + len(rest)))
        assert [*seen, *rest][after.place] == seen[before.place]


def test_the_probability_of_a_majority_is_that_of_its_posterior() -> None:
    assert majority_probability(4, 0) == pytest.approx(31 / 32)
    assert majority_probability(2, 2) == pytest.approx(0.5)
    dice = random.Random(1)
    drawn = sum(dice.betavariate(6, 3) > 0.5 for _ in range(20_000)) / 20_000
    assert majority_probability(5, 2) == pytest.approx(drawn, abs=0.02)


def test_only_certainty_counts_where_full_confidence_is_asked_for() -> None:
    assert not is_decisive(9, 0, 9, confidence=1.0)
    assert is_decisive(9, 0, 9, confidence=0.95)


@given(st.integers(0, 8), st.integers(0, 8), st.integers(1, 8))
def test_fewer_votes_than_needed_decide_nothing(votes: int, runner_up: int, left: int) -> None:
    needed = votes_needed(votes, runner_up, left, 0.95)

    assert 1 <= needed <= left
    for fewer in range(1, needed):
        assert not is_decisive(votes + fewer, runner_up, left - fewer, 0.95)
