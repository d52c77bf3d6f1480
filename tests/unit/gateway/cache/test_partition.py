"""One partition's exact search."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.partition import BLOCK_ROWS, Partition, Vector


def unit(seed: int, rows: int) -> Vector:
    drawn = np.random.default_rng(seed).normal(size=(rows, 8)).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), dtype=np.float32)


@given(st.integers(0, 99), st.integers(1, 60), st.integers(1, 10), st.floats(-1, 1))
def test_search_finds_what_sorting_everything_finds(seed: int, rows: int, count: int, floor: float) -> None:
    vectors = unit(seed, rows)
    partition = Partition(8)
    for vector in vectors:
        partition.add(vector)

    found, cosines = partition.search(vectors[0], count, floor)

    exact = vectors @ vectors[0]
    wanted = np.sort(exact[exact >= floor])[::-1][:count]
    assert np.allclose(cosines, wanted, atol=1e-6)
    assert np.allclose(exact[found], cosines, atol=1e-6)


def test_a_removed_row_is_filled_by_the_last() -> None:
    vectors = unit(0, 40)
    partition = Partition(8)
    for vector in vectors:
        partition.add(vector)

    assert partition.remove(3) == 39
    assert len(partition) == 39
    assert partition.search(vectors[39], 1, 0.9)[0].tolist() == [3]
    assert partition.search(vectors[3], 1, 0.999)[0].tolist() == []


def test_an_empty_partition_finds_nothing() -> None:
    assert Partition(8).search(unit(0, 1)[0], 5, -1.0)[0].tolist() == []


@pytest.mark.parametrize("bad", [np.full(8, np.nan), np.ones(7)])
def test_what_is_no_vector_is_refused(bad: Vector) -> None:
    with pytest.raises(ValueError, match="no vector"):
        Partition(8).add(np.asarray(bad, dtype=np.float32))


def test_a_row_that_is_not_there_can_not_be_removed() -> None:
    with pytest.raises(IndexError):
        Partition(8).remove(0)


def test_a_row_counts_until_its_time() -> None:
    partition = Partition(8)
    vectors = unit(0, 3)
    for until_s, vector in zip((5.0, 7.0, 9.0), vectors, strict=True):
        partition.add(vector, until_s)

    assert sorted(partition.search(vectors[0], 3, -1.0, 5.0)[0].tolist()) == [1, 2]
    partition.remove(0)
    assert partition.search(vectors[2], 3, -1.0, 7.0)[0].tolist() == [0]


def test_it_grows_past_a_block_and_shrinks_again_without_losing_a_row() -> None:
    rows = 2 * BLOCK_ROWS + 10
    vectors = unit(1, rows)
    partition = Partition(8)
    empty = partition.nbytes
    for vector in vectors:
        partition.add(vector)
    full = partition.nbytes
    kept = list(range(rows))

    for row in range(rows - 5):
        place = (row * 7919) % len(kept)
        partition.remove(place)
        kept[place] = kept[-1]
        kept.pop()

    assert full < 2 * vectors.nbytes
    assert partition.nbytes <= 2 * empty
    for place, row in enumerate(kept):
        assert partition.search(vectors[row], 1, 0.999)[0].tolist() == [place]
