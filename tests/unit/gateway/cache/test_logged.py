"""Checked pairs as lessons: what stands in a fold teaches no model that judges the fold."""

from __future__ import annotations

import numpy as np

from gateway.cache.learner import Learner, Stream
from gateway.cache.logged import Logged, LoggedLessons
from gateway.ledger.cache_evidence import CheckedPair
from local_runtime.embedders.hashing import HashingEmbedder
from tests.unit.gateway.cache.labelled import stream, vectors

ROWS = stream()
STREAM = Stream(ROWS, vectors(ROWS))
LEARNER = Learner((STREAM,), "hashing", 0)


def logged(*pairs: CheckedPair) -> Logged:
    embed = HashingEmbedder().embed
    return Logged(pairs, embed([pair.asked for pair in pairs]), embed([pair.cached for pair in pairs]))


def test_a_pair_with_a_text_near_identical_to_a_row_teaches_only_with_that_row() -> None:
    row = 7
    for pair in (
        CheckedPair(f"{ROWS[row].query} ", "who wrote this novel", True, "facts"),
        CheckedPair("who wrote this novel", ROWS[row].query, True, "facts"),
    ):
        lessons = LoggedLessons(logged(pair), LEARNER, (STREAM,))
        without = np.arange(len(ROWS)) != row

        assert len(lessons.of(np.ones(len(ROWS), dtype=np.bool_)).same) == 1
        assert len(lessons.of(without).same) == 0


def test_a_pair_of_a_rows_template_teaches_only_with_that_row() -> None:
    place = next(place for place, row in enumerate(ROWS) if row.query == "find 30 hotels in Lima")
    lessons = LoggedLessons(
        logged(CheckedPair("find 77 hotels in Lima", "write me a poem", False, "x")), LEARNER, (STREAM,)
    )
    chosen = np.ones(len(ROWS), dtype=np.bool_)
    chosen[place] = False

    assert len(lessons.of(chosen).same) == 0


def test_a_pair_like_no_row_teaches_always_and_of_no_category_where_that_is_unknown() -> None:
    pairs = [CheckedPair("write me a poem", "please write a poem", True, topic) for topic in ("facts", "new to it")]

    found = LoggedLessons(logged(*pairs), LEARNER, (STREAM,)).of(np.zeros(len(ROWS), dtype=np.bool_))

    assert found.category.tolist() == [LEARNER.names.index("facts"), len(LEARNER.names)]
    assert found.same.tolist() == [True, True]
    assert 0 < found.inputs[0, 0] < 1


def test_what_was_logged_is_learned_from() -> None:
    pairs = [CheckedPair(f"nice word{place} here", f"nice word{place} there", False, "facts") for place in range(40)]
    every = np.ones(len(ROWS), dtype=np.bool_)
    more = LoggedLessons(logged(*pairs), LEARNER, (STREAM,)).of(every)

    without, taught = LEARNER.model(every), LEARNER.model(every, more)

    assert not np.array_equal(without.linear, taught.linear)
    assert LEARNER.model(every, more.of(np.zeros(40, dtype=np.bool_))).linear.tolist() == without.linear.tolist()
