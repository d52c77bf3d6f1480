"""Splits divide everything, leak no question, and depend on the seed alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.training.dataset import Dataset
from routers.training.simulator import make_world, simulate
from routers.training.splits import by_group, folds_by_group, leave_models_out, leave_tasks_out


def repeated(count: int = 200, seed: int = 0) -> Dataset:
    """Three rows in ten ask an earlier question again."""
    return simulate(make_world(models=6, repeats=0.3), count, seed).dataset


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(3, 120))
def test_every_row_is_in_one_part_and_no_question_in_two(seed: int, count: int) -> None:
    data = simulate(make_world(), count, seed).dataset

    parts = by_group(data, seed)

    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
    assert all(len(part) for part in parts)
    groups = [set(data.groups[part].tolist()) for part in parts]
    assert groups[0].isdisjoint(groups[1] | groups[2]) and groups[1].isdisjoint(groups[2])


def test_repeated_questions_stay_together_and_shares_are_kept() -> None:
    data = repeated(1000)

    train, tune, test = by_group(data, 3)

    assert len(np.unique(data.groups)) < 900
    assert set(data.groups[train].tolist()).isdisjoint(data.groups[test].tolist())
    assert (abs(len(train) - 700), abs(len(tune) - 100), abs(len(test) - 200)) < (15, 15, 15)


def test_the_seed_alone_decides() -> None:
    data = repeated()

    assert by_group(data, 1)[2].tolist() == by_group(data, 1)[2].tolist()
    assert by_group(data, 1)[2].tolist() != by_group(data, 2)[2].tolist()


def test_a_part_that_nobody_wants_is_empty() -> None:
    train, tune, test = by_group(repeated(), 0, (0.7, 0.0, 0.3))

    assert len(tune) == 0 and len(train) + len(test) == 200


@pytest.mark.parametrize("shares", [(0.5, 0.1, 0.1), (1.2, -0.4, 0.2)])
def test_shares_that_make_no_whole_are_refused(shares: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        by_group(repeated(), 0, shares)


def test_two_questions_can_not_be_divided_in_three() -> None:
    with pytest.raises(ValueError, match="bring more queries"):
        by_group(repeated().rows(np.array([0, 1])), 0)


def test_folds_cover_every_row_once_and_leak_no_question() -> None:
    data = repeated()

    folds = folds_by_group(data, 4, seed=5)

    assert sorted(np.concatenate([own for _, own in folds]).tolist()) == list(range(200))
    for others, own in folds:
        assert len(others) + len(own) == 200
        assert set(data.groups[others].tolist()).isdisjoint(data.groups[own].tolist())


def test_models_are_held_out_by_the_seed_and_all_are_accounted_for() -> None:
    data = repeated()

    kept, held = leave_models_out(data, 2, 0)

    assert sorted(kept + held) == list(range(6)) and len(held) == 2
    assert {tuple(leave_models_out(data, 2, seed)[1]) for seed in range(20)} != {tuple(held)}
    with pytest.raises(ValueError, match="1 to 4"):
        leave_models_out(data, 5, 0)


def test_named_models_are_held_out_by_every_seed() -> None:
    data = repeated()
    names = [card.id for card in data.models]

    assert leave_models_out(data, 0, 3, [names[4], names[1]]) == ([0, 2, 3, 5], [1, 4])
    with pytest.raises(ValueError, match="no model 'gone' to hold out; it has"):
        leave_models_out(data, 0, 0, ["gone"])
    with pytest.raises(ValueError, match="1 to 4"):
        leave_models_out(data, 0, 0, names[1:])


def test_a_task_that_is_left_out_leaves_no_question_behind() -> None:
    data = repeated(400)

    left = list(leave_tasks_out(data, 0))

    assert sorted(name for name, _, _ in left) == sorted(set(data.tasks))
    for name, train, test in left:
        assert {data.tasks[row] for row in test} == {name}
        assert name not in {data.tasks[row] for row in train}
        assert set(data.groups[train].tolist()).isdisjoint(data.groups[test].tolist())


def test_one_task_can_not_be_left_out() -> None:
    data = repeated()
    one = data.rows(np.array([row for row, task in enumerate(data.tasks) if task == data.tasks[0]]))

    with pytest.raises(ValueError, match="one task only"):
        leave_tasks_out(one, 0)
