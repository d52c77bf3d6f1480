"""What is learned from, in one order."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from routers.training.dataset import Dataset
from routers.training.lesson import Lesson, lesson_of, lessons
from tests.contract.planted import outcomes


def equal(one: Lesson, other: Lesson) -> bool:
    arrays = (field.name for field in fields(Lesson) if field.name not in ("cards", "inputs"))
    same = all(np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True) for name in arrays)
    return same and one.cards == other.cards and np.array_equal(one.inputs.embeddings, other.inputs.embeddings)


def test_the_order_in_a_file_does_not_matter() -> None:
    data = outcomes()
    turned = data.rows(np.random.default_rng(5).permutation(len(data))).columns([3, 1, 4, 0, 2])

    assert all(equal(one, other) for one, other in zip(lessons(data, None, 0), lessons(turned, None, 0), strict=True))


def test_a_part_is_kept_back_where_no_validation_is_given() -> None:
    fitted, unseen, whole = lessons(outcomes(), None, 0)

    assert len(fitted) + len(unseen) == len(whole) == 160
    assert 16 <= len(unseen) <= 32


def test_the_validation_that_is_given_is_used() -> None:
    data = outcomes()

    fitted, unseen, whole = lessons(data.rows(np.arange(100)), data.rows(np.arange(100, 160)), 0)

    assert (len(fitted), len(unseen), len(whole)) == (100, 60, 160)


def test_models_are_matched_by_id() -> None:
    data = outcomes()
    other = data.rows(np.arange(100, 160)).columns([4, 2])

    _, unseen, _ = lessons(data.rows(np.arange(100)), other, 0)

    place = [card.id for card in unseen.cards].index(data.models[4].id)
    assert np.array_equal(np.sort(unseen.score[:, place]), np.sort(other.score[:, 0]))
    assert np.isnan(unseen.score).all(axis=0).sum() == 3


def test_a_model_without_scores_is_left_out() -> None:
    data = outcomes()
    score = data.score.copy()
    score[:, 2] = np.nan

    fitted, _, _ = lessons(replace(data, score=score), None, 0)

    assert data.models[2].id not in {card.id for card in fitted.cards}


def test_one_question_is_tuned_on_itself() -> None:
    data = outcomes().rows(np.zeros(4, dtype=np.intp))

    fitted, unseen, whole = lessons(data, None, 0)

    assert len(fitted) == len(unseen) == len(whole) == 4


def _no_rows() -> Dataset:
    return outcomes().rows(np.empty(0, dtype=np.intp))


def _no_models() -> Dataset:
    return outcomes().columns([])


def _broken() -> Dataset:
    data = outcomes().rows(np.arange(20))
    data.inputs.embeddings[3, 0] = np.inf
    return data


@pytest.mark.parametrize(
    ("data", "said"), [(_no_rows(), "0 queries"), (_no_models(), "0 models"), (_broken(), "not finite")]
)
def test_what_can_not_be_learned_from_is_named(data: Dataset, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        lessons(data, None, 0)


def test_a_whole_set_keeps_its_own_order() -> None:
    data = outcomes()

    lesson = lesson_of(data)

    assert np.array_equal(lesson.score, data.score)
    assert np.allclose(np.exp(lesson.log_tokens), data.output_tokens, rtol=1e-5)


def test_what_is_usual_of_a_model_does_not_depend_on_which_questions_it_was_asked() -> None:
    lesson = lesson_of(outcomes())
    hard = np.arange(len(lesson)) % 2
    score = np.tile((0.8 - 0.6 * hard).astype(np.float32)[:, None], (1, len(lesson.cards)))
    score[hard == 0, 0], score[hard == 1, 1], score[:, 2] = np.nan, np.nan, np.nan

    usual = replace(lesson, score=score).usual()

    assert abs(usual[0] - usual[1]) < 0.2 < abs(np.nanmean(score[:, 0]) - np.nanmean(score[:, 1]))
    assert min(usual) <= usual[2] <= max(usual)
