"""What learned routers are measured against."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policies.catalogue import ModelCard
from routers.training.choices import bench_of, true_cost
from routers.training.references import BEST_IN_HINDSIGHT, BEST_LABELLED, BEST_SINGLE, ORACLE, TRUE_TASK, references
from tests.unit.routers.training.judged import DATA, OTHER, without

BENCH = bench_of(OTHER)
FOUND = references(DATA, BENCH)


def renamed(prefix: str) -> tuple[ModelCard, ...]:
    return tuple(card.model_copy(update={"id": prefix + card.id}) for card in DATA.models)


def test_the_best_single_is_chosen_on_training_data_for_each_weight() -> None:
    best = int(DATA.score.mean(axis=0).argmax())

    assert np.array_equal(FOUND[BEST_SINGLE].score[0], OTHER.score[:, best])
    assert FOUND[BEST_SINGLE].cost[-3].mean() <= FOUND[BEST_SINGLE].cost[0].mean()


def test_cheapest_and_dearest_are_single_models() -> None:
    means = true_cost(DATA).mean(axis=0)

    assert np.array_equal(FOUND["cheapest"].score[0], OTHER.score[:, means.argmin()])
    assert np.array_equal(FOUND["dearest"].score[5], OTHER.score[:, means.argmax()])


def test_random_is_what_an_even_draw_is_worth() -> None:
    assert FOUND["random"].score[0].mean() == pytest.approx(float(OTHER.score.mean()))


def test_the_oracle_and_hindsight_bound_what_can_be_reached() -> None:
    means = {name: took.score[0].mean() for name, took in FOUND.items()}

    assert means[ORACLE] == pytest.approx(float(OTHER.score.max(axis=1).mean()))
    assert means[ORACLE] >= means[TRUE_TASK]
    assert means[BEST_IN_HINDSIGHT] >= means[BEST_SINGLE]


def test_the_true_task_takes_each_task_s_best_model() -> None:
    task = OTHER.tasks[0]
    rows = [place for place, one in enumerate(DATA.tasks) if one == task]
    best = int(DATA.score[rows].mean(axis=0).argmax())

    assert FOUND[TRUE_TASK].score[0, 0] == OTHER.score[0, best]


def test_models_that_training_never_saw_are_not_the_best_single() -> None:
    known = DATA.columns([0, 1])

    best = int(known.score.mean(axis=0).argmax())
    assert np.array_equal(references(known, BENCH)[BEST_SINGLE].score[0], OTHER.score[:, best])


def test_labels_let_a_new_model_be_the_best_single() -> None:
    worst = int(OTHER.score.mean(axis=0).argmin())
    known, few = DATA.columns([worst]), DATA.columns([one for one in range(6) if one != worst]).rows(np.arange(64))

    found = references(known, BENCH, few)

    assert found[BEST_LABELLED].score[0].mean() > found[BEST_SINGLE].score[0].mean()
    assert BEST_LABELLED not in references(known, BENCH, few.rows(np.arange(0)))


def test_where_no_model_is_known_the_dearest_stands_for_the_best() -> None:
    strangers = replace(DATA, models=renamed("x-"))

    found = references(strangers, BENCH)

    assert np.array_equal(found[BEST_SINGLE].score[0], found["dearest"].score[0])


def test_every_reference_works_where_outcomes_are_missing() -> None:
    found = references(without(DATA, 0.5), bench_of(without(OTHER, 0.5)))

    assert all(np.isfinite(took.score).all() and np.isfinite(took.cost).all() for took in found.values())
