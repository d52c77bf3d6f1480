"""The protocols keep their promises: no question on both sides, unseen tasks unseen, labels counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routers.learned import LearnedRouter
from routers.training.caution import Caution
from routers.training.evaluate import (
    RETRAINED,
    SEEN_POOL,
    Unseen,
    first_labels,
    judge_new_models,
    judge_splits,
    judge_unseen,
    judge_unseen_tasks,
    with_labels,
)
from routers.training.judge import CAUTIOUS, fit_all
from routers.training.references import BEST_SINGLE
from routers.training.simulator import simulate
from tests.unit.routers.training.judged import DATA, OTHER, WORLD

LARGER = WORLD.with_new_models(2, 9)
UNSEEN = simulate(LARGER, 60, 7, name="unseen").dataset
LABELS = simulate(LARGER, 40, 8, name="labels").dataset


def test_each_seed_judges_a_fifth_of_the_questions() -> None:
    first, second = judge_splits(DATA, ["mean"], [0, 1])

    assert len(first.bench.test) == pytest.approx(48, abs=3)
    assert first.bench.test.query_ids != second.bench.test.query_ids


def test_costs_are_normalised_by_the_whole_set_in_every_round() -> None:
    first, second = judge_splits(DATA, ["mean"], [0, 1])

    assert (first.bench.least, first.bench.span) == (second.bench.least, second.bench.span)
    assert np.array_equal(first.bench.weights, second.bench.weights)


def test_every_task_is_judged_once_for_each_seed_by_routers_that_never_saw_it() -> None:
    rounds = judge_unseen_tasks(DATA, ["mean"], [0])

    assert sorted(set(DATA.tasks)) == sorted({task for one in rounds for task in set(one.bench.test.tasks)})
    assert sum(len(one.bench.test) for one in rounds) == len(DATA)


def test_new_models_are_judged_with_the_seen_pool_and_a_full_retrain_beside_them() -> None:
    judged = judge_new_models(DATA, ["ridge"], [0], 2, (0, 16))

    for shot in (0, 16):
        (one,) = judged.rounds[shot]
        assert {"ridge", "ridge" + SEEN_POOL, "ridge" + RETRAINED} <= set(one.routers)
        assert "brier_new" in one.routers["ridge"].figures


def test_policies_that_abstain_are_judged_with_new_models_too() -> None:
    judged = judge_new_models(DATA, ["mean"], [0], 1, (0,), caution=Caution(confidence=0.9))

    assert "mean" + CAUTIOUS in judged.rounds[0][0].routers


def test_labels_reach_the_router_only_as_many_as_were_asked_for() -> None:
    few = first_labels(LABELS, [LARGER.cards[-1].id], 4, seed=0)

    assert [card.id for card in few.models] == [LARGER.cards[-1].id]
    assert few.observed.sum() == len(few) == 4
    assert np.array_equal(few.observed, ~np.isnan(few.output_tokens))


def test_another_seed_draws_other_labels_and_fewer_are_the_first_of_more() -> None:
    name = LARGER.cards[-1].id
    drawn = [set(first_labels(LABELS, [name], 8, seed).query_ids) for seed in (0, 1)]

    assert drawn[0] != drawn[1]
    assert set(first_labels(LABELS, [name], 3, seed=0).query_ids) < drawn[0]


def test_routers_without_labels_are_the_same_routers() -> None:
    fitted, _ = fit_all(["mean"], DATA, None, 0, lambda what, share: None)

    assert with_labels(fitted, LABELS.rows(np.arange(0)))["mean"][0] is fitted["mean"][0]


def test_an_unseen_folder_is_judged_whole_with_models_that_were_never_trained_on() -> None:
    fitted, _ = fit_all(["ridge"], DATA, None, 0, lambda what, share: None)
    case = Unseen(UNSEEN, DATA, {"artifact mine": fitted["ridge"][0]}, LABELS)

    rounds = judge_unseen(case, ["mean"], [0], [0, 16])

    for shot in (0, 16):
        (one,) = rounds[shot]
        assert len(one.bench.test) == len(UNSEEN)
        assert {"mean", "artifact mine"} <= set(one.routers)
        assert "brier_new" in one.routers["artifact mine"].figures


def test_without_training_data_the_artifact_says_which_single_model_is_best() -> None:
    router = type(fitted_ridge()).from_artifact(replace(fitted_ridge().artifact, data={"models": [WORLD.cards[1].id]}))

    (one,) = judge_unseen(Unseen(UNSEEN, None, {"artifact mine": router}), ["mean"], [0], [0])[0]

    assert "mean" not in one.routers and "artifact mine" in one.routers
    assert np.array_equal(one.routers[BEST_SINGLE].taken.score[0], UNSEEN.score[:, 1])


def fitted_ridge() -> LearnedRouter:
    return fit_all(["ridge"], DATA, None, 0, lambda what, share: None)[0]["ridge"][0]


def test_questions_that_were_trained_on_are_not_judged() -> None:
    half = DATA.rows(np.arange(100))
    case = Unseen(DATA, half, {})

    (one,) = judge_unseen(case, ["mean"], [0], [0])[0]

    assert not set(one.bench.test.groups) & set(half.groups)


def test_a_folder_that_was_trained_on_whole_is_refused() -> None:
    with pytest.raises(ValueError, match="every question is in the training data"):
        judge_unseen(Unseen(DATA, DATA, {}), ["mean"], [0], [0])


def test_task_labels_change_nothing_for_a_router() -> None:
    blind = replace(OTHER, tasks=("one",) * len(OTHER))
    seeing, _ = fit_all(["ridge", "knn", "cluster"], OTHER, None, 0, lambda what, share: None)
    unseeing, _ = fit_all(["ridge", "knn", "cluster"], blind, None, 0, lambda what, share: None)

    for kind, (router, _) in seeing.items():
        assert router.artifact.sha256 == unseeing[kind][0].artifact.sha256
