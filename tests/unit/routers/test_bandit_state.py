"""Sums that merge by addition, whoever made them and in whichever order feedback came."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routers.bandit_state import Tally, added, empty, faded, lesson, merged, packed, unpacked

HALF_LIFE_S = 1000.0

LESSONS = st.lists(
    st.tuples(
        st.lists(st.floats(-3, 3), min_size=2, max_size=2),
        st.floats(-1, 1),
        st.floats(0, 20_000),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=20,
)


def taught(rows: list[tuple[list[float], float, float, int]]) -> Tally:
    """One worker that hears everything in this order."""
    found = empty(3)
    for context, residual, at, _ in rows:
        found = merged([found, lesson(np.array([1.0, *context]), residual, at)], HALF_LIFE_S)
    return found


def assert_same(one: Tally, other: Tally) -> None:
    assert one.at == other.at
    assert one.count == pytest.approx(other.count)
    assert one.gram == pytest.approx(other.gram, abs=1e-9)
    assert one.moment == pytest.approx(other.moment, abs=1e-9)


@given(rows=LESSONS)
def test_workers_that_merge_know_what_one_worker_would(rows: list[tuple[list[float], float, float, int]]) -> None:
    shares = [[row for row in rows if row[3] == worker] for worker in range(3)]

    together = merged([taught(share) for share in shares if share], HALF_LIFE_S)

    assert_same(together, taught(rows))


@given(rows=LESSONS, seed=st.integers(0, 99))
def test_the_order_in_which_feedback_arrives_changes_nothing(
    rows: list[tuple[list[float], float, float, int]], seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(rows))

    assert_same(taught([rows[place] for place in order]), taught(rows))


@given(rows=LESSONS)
def test_a_lesson_that_is_taken_back_was_never_learned(rows: list[tuple[list[float], float, float, int]]) -> None:
    before = taught(rows)
    context, at = np.array([1.0, 0.5, -2.0]), before.at

    after = merged([before, lesson(context, 0.3, at), lesson(context, 0.3, at, weight=-1.0)], HALF_LIFE_S)

    assert_same(after, before)


def test_what_is_a_half_life_old_counts_half() -> None:
    once = lesson(np.array([1.0, 2.0]), 0.5, 0.0)

    later = faded(once, HALF_LIFE_S, HALF_LIFE_S)

    assert later.count == pytest.approx(0.5)
    assert later.moment == pytest.approx([0.25, 0.5])
    assert faded(once, 1e9, np.inf).count == 1.0


@given(rows=LESSONS)
def test_a_tally_survives_packing_bit_by_bit(rows: list[tuple[list[float], float, float, int]]) -> None:
    tally = taught(rows)

    back = unpacked(packed(tally))

    assert (back.at, back.count) == (tally.at, tally.count)
    assert np.array_equal(np.tril(back.gram), np.tril(tally.gram)) and np.array_equal(back.gram, back.gram.T)
    assert np.array_equal(back.moment, tally.moment)


@pytest.mark.parametrize("raw", [b"", b"x", bytes(16), bytes(8 * 6), packed(empty(2)) + b"1234", b"\xff" * 40])
def test_other_bytes_are_no_tally(raw: bytes) -> None:
    with pytest.raises(ValueError, match="no tally"):
        unpacked(raw)


def test_models_of_two_states_are_added_each_on_its_own() -> None:
    one, two = lesson(np.ones(1), 1.0, 5.0), lesson(np.ones(1), -1.0, 5.0)

    found = added({"a": one, "b": one}, {"b": two, "c": two}, HALF_LIFE_S)

    assert {model: (tally.count, float(tally.moment[0])) for model, tally in found.items()} == {
        "a": (1, 1),
        "b": (2, 0),
        "c": (1, -1),
    }
