"""Several data sets as one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policies.catalogue import ModelCard
from routers.training.dataset import Dataset
from routers.training.simulator import logged, make_world, simulate
from routers.training.union import same_models, union

SET = simulate(make_world(models=4), 30, 0, name="one").dataset
OTHER = simulate(make_world(models=4), 20, 1, name="two").dataset


def card(name: str, base: str = "", tuning: str = "") -> ModelCard:
    return ModelCard(id=name, context_tokens=1, base_model=base, tuning=tuning)


def named(data: Dataset, *names: str) -> Dataset:
    """The first models, with these names alone."""
    return replace(data.columns(range(len(names))), models=tuple(card(name) for name in names))


def test_rows_of_both_stand_over_the_common_models_in_the_first_set_s_order() -> None:
    mixed = union([named(SET, "a", "b", "c"), named(OTHER, "c", "b")])

    assert [one.id for one in mixed.models] == ["b", "c"]
    assert len(mixed) == 50 and mixed.name == "one+two"
    assert np.array_equal(mixed.score[30:, 1], OTHER.score[:, 0])
    assert np.array_equal(mixed.cost_usd[:30, 0], SET.cost_usd[:, 1])


def test_without_a_common_model_all_stand_side_by_side_with_gaps() -> None:
    mixed = union([named(SET, "a", "b"), named(OTHER, "x")])

    assert [one.id for one in mixed.models] == ["a", "b", "x"]
    assert mixed.observed[:30].tolist() == [[True, True, False]] * 30
    assert mixed.observed[30:].tolist() == [[False, False, True]] * 20


def test_every_model_can_be_asked_for() -> None:
    assert len(union([named(SET, "a", "b"), named(OTHER, "b", "c")], every_model=True).models) == 3


def test_a_model_is_known_by_its_base_where_its_name_differs() -> None:
    found = same_models([[card("gpt"), card("claude", "claude-3")], [card("claude-FC", "claude-3")]])

    assert found == [{0: 0}, {0: 1, 1: 0}]


@pytest.mark.parametrize(
    "second",
    [
        [card("claude-FC", "claude-3"), card("claude-prompt", "claude-3")],
        [card("claude-FC", "claude-3", tuning="base")],
        [card("claude-FC")],
    ],
)
def test_a_base_that_is_not_sure_to_be_the_same_model_joins_nothing(second: list[ModelCard]) -> None:
    found = same_models([[card("claude", "claude-3", tuning="chat")], second])

    assert len(found) == 1 + len(second)


def test_one_question_has_one_group_in_the_union() -> None:
    again = replace(SET, name="again", query_ids=tuple(f"x{one}" for one in SET.query_ids))

    mixed = union([SET, again])

    assert mixed.groups[:30].tolist() == mixed.groups[30:].tolist()


def test_ids_that_clash_get_the_set_in_front() -> None:
    mixed = union([SET, SET])

    assert len(set(mixed.query_ids)) == 60
    assert mixed.query_ids[0] == f"0:one:{SET.query_ids[0]}"


def test_rows_that_no_common_model_answered_are_dropped_and_propensities_kept() -> None:
    log = logged(SET, [0.25, 0.25, 0.5, 0], seed=1)

    mixed = union([log, OTHER.columns([0, 1])])

    assert len(mixed) == 20 + int(log.observed[:, :2].any(axis=1).sum())
    assert mixed.propensity is not None and np.isnan(mixed.propensity[-20:]).all()
    assert np.nanmax(mixed.propensity) == 0.25


def test_sets_of_different_embedders_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="one embedder"):
        union([SET, replace(OTHER, embedder="another")])
    with pytest.raises(ValueError, match="one data set"):
        union([])
