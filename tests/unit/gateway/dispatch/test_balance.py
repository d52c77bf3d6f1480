"""Two choices: the less busy one wins, nobody is left out, weights count."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch.balance import CLEARLY_BETTER, two_choices

POSITIVE = st.floats(0.001, 1000)
POOLS = st.lists(st.tuples(POSITIVE, POSITIVE), min_size=2, max_size=6)


@given(pool=POOLS, seed=st.integers(0, 1000))
def test_all_are_in_the_order_once_and_the_busiest_of_all_never_wins_clearly(
    pool: list[tuple[float, float]], seed: int
) -> None:
    weights, loads = [list(column) for column in zip(*pool, strict=True)]
    costs = [load / weight for weight, load in pool]

    order = two_choices(weights, loads, random.Random(seed))

    assert sorted(order) == list(range(len(pool)))
    best_of_others = min(costs[index] for index in order[1:])
    assert len(pool) > 2 or costs[order[0]] * CLEARLY_BETTER <= best_of_others * 1.000001
    assert [costs[index] for index in order[1:]] == sorted(costs[index] for index in order[1:])


def test_the_worst_of_many_never_wins_and_all_others_may() -> None:
    dice = random.Random(1)

    firsts = {two_choices([1.0] * 4, [1.0, 2.0, 4.0, 8.0], dice)[0] for _ in range(500)}

    assert firsts == {0, 1, 2}


def test_load_settles_in_proportion_to_weight() -> None:
    dice, weights = random.Random(1), [3.0, 1.0, 1.0]
    calls = [0, 0, 0]

    for _ in range(500):
        calls[two_choices(weights, [one + 1.0 for one in calls], dice)[0]] += 1

    assert calls[0] == pytest.approx(300, rel=0.15)


def test_an_endpoint_of_hardly_any_weight_stands_by() -> None:
    dice = random.Random(1)

    assert {two_choices([1000.0, 0.001], [500.0, 1.0], dice)[0] for _ in range(100)} == {0}


def test_there_must_be_a_choice() -> None:
    with pytest.raises(ValueError, match="nothing to choose"):
        two_choices([1.0], [1.0], random.Random(1))
