"""How the simple kinds are tuned, calibrated and put together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routers.kinds.mean import MeanRouter
from routers.kinds.ridge import RidgeRouter
from routers.learned import silent
from routers.training import folding
from routers.training.checkpoint import Checkpoint
from routers.training.lesson import lessons
from routers.training.simulator import logged, make_world, simulate
from tests.contract.planted import outcomes
from tests.unit.routers.kinds.worlds import specialists


def test_the_grid_is_searched_for_the_best_choices() -> None:
    _, _, whole = lessons(specialists(200, 1), None, 0)

    chosen = folding.grid_search(RidgeRouter, whole, {}, 0, silent, Checkpoint(None, ""))

    assert chosen in [{"penalty": penalty} for penalty in RidgeRouter.GRID["penalty"]]
    assert chosen["penalty"] < 3000  # which would call one model for everything


def test_better_choices_lose_less() -> None:
    _, _, whole = lessons(specialists(200, 1), None, 0)

    right, flat, wrong = (folding.loss(told, whole) for told in (whole.score, 0 * whole.score, 1 - whole.score))

    assert right < flat < wrong


def test_where_choices_can_not_be_judged_forecasts_are() -> None:
    _, _, whole = lessons(logged(specialists(200, 1), [0.5, 0.5], 0), None, 0)

    told = np.full(whole.score.shape, 0.5)

    assert folding.loss(told, whole) == pytest.approx(0.25)


def test_a_few_gaps_do_not_keep_choices_from_being_judged() -> None:
    _, _, whole = lessons(specialists(200, 1), None, 0)
    gaps = np.where(np.arange(200)[:, None] % 20 + np.arange(2) == 0, np.nan, whole.score).astype(np.float32)
    sparse = replace(whole, score=gaps)

    right, wrong = (folding.loss(told, sparse) for told in (whole.score, 1 - whole.score))

    assert right == pytest.approx(folding.loss(whole.score, whole), abs=0.05)
    assert wrong > right + 0.5


def test_a_question_is_in_one_fold_only() -> None:
    data = simulate(make_world(dimensions=8, repeats=0.4), 120, seed=0).dataset
    _, _, whole = lessons(data, None, 0)

    folds = folding._folds(whole, 0)

    assert sorted(np.concatenate([fold for _, fold in folds]).tolist()) == list(range(120))
    assert all(not set(whole.groups[rest]) & set(whole.groups[fold]) for rest, fold in folds)


def test_progress_rises_to_its_end() -> None:
    shares: list[float] = []

    RidgeRouter.fit(outcomes(), progress=lambda share, what: shares.append(share))

    assert shares == sorted(shares) and shares[0] == 0.0 and shares[-1] == 1.0


def test_an_unknown_setting_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no setting 'lambda' \(known: penalty\)"):
        RidgeRouter.fit(outcomes(), settings={"lambda": 1})


def test_what_all_models_have_in_common_is_recalibrated_and_choices_stay() -> None:
    router = RidgeRouter.fit(outcomes(), settings={"penalty": 300.0})
    arrays = {name: one for name, one in router.artifact.arrays.items() if name != "hardness"}
    flat = RidgeRouter(replace(router.artifact, arrays=arrays))

    told, before = (one.predict(outcomes().inputs, outcomes().models).quality for one in (router, flat))

    assert np.array_equal(told.argmax(axis=1), before.argmax(axis=1))
    assert told.mean(axis=1).std() > 1.2 * before.mean(axis=1).std()
    assert ((told - outcomes().score) ** 2).mean() < ((before - outcomes().score) ** 2).mean()


def test_a_kind_that_is_taken_at_its_word_is_not_recalibrated() -> None:
    assert "hardness" not in MeanRouter.fit(outcomes()).artifact.arrays


def test_an_artifact_names_its_data_and_measures() -> None:
    artifact = RidgeRouter.fit(outcomes()).artifact

    assert artifact.data["sha256"] == outcomes().sha256()
    assert artifact.data["queries"] == 160
    assert 0 < artifact.metrics["brier"] < 0.3
