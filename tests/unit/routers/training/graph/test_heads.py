"""The linear heads beside the network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from routers.training.graph.heads import heads, heads_out_of_fold
from routers.training.graph.material import Material, material
from tests.unit.routers.kinds.worlds import specialists


def made(queries: int = 200) -> Material:
    return material(specialists(queries, 1), 4, 32, 0)


def test_heads_tell_what_sets_models_apart_and_nothing_else() -> None:
    one = made()
    maps = heads(one, np.arange(len(one)))

    told = one.columns @ maps[:-1] + maps[-1]

    assert np.allclose(told.sum(axis=1), 0)
    assert (told.argmax(axis=1) == one.score.argmax(axis=1)).mean() > 0.8


def test_heads_of_a_fold_know_none_of_its_outcomes() -> None:
    one = made()
    inside = one.fold == 0
    wrong = replace(one, score=np.where(inside[:, None], 1 - one.score, one.score))

    assert np.allclose(heads_out_of_fold(one)[inside], heads_out_of_fold(wrong)[inside])


def test_a_model_without_outcomes_is_as_all_models_are_in_the_mean() -> None:
    one = made()
    silent = replace(one, score=np.column_stack([one.score, np.full(len(one), np.nan)]))

    maps, known = heads(silent, np.arange(len(one))), heads(one, np.arange(len(one)))

    assert np.isfinite(maps).all()
    assert np.abs(maps[:, 2]).max() < 0.2 * np.abs(known).max()


def test_of_no_rows_heads_say_nothing() -> None:
    assert not heads(made(20), np.empty(0, dtype=np.intp)).any()
