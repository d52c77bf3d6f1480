"""Matrices of experts: numbers of 4 bits in two halves, and bfloat16."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runtime.kernels.abi import BF16, Q2, Q4, Q22, Matrix
from local_runtime.kernels.library import Arena, kernels, multiply
from local_runtime.kernels.packing import Bytes, Groups, pack, pack_bfloat16, rounded, split

BEST = kernels()
pytestmark = pytest.mark.skipif(BEST is None, reason="the native kernels were not built, or the processor has no AVX2")
ROWS, COLS = 37, 200


def a_matrix(seed: int) -> Groups:
    return rounded(np.random.default_rng(seed).standard_normal((ROWS, COLS)).astype(np.float32), Q4)


def tiles_of(groups: Groups) -> tuple[Bytes, int]:
    assert BEST is not None
    size = BEST.library.fp_matrix_bytes(ROWS, COLS, Q4)
    tiles = np.zeros(size + 8192, np.uint8)
    pack(BEST, Matrix(tiles.ctypes.data, None, ROWS, COLS, Q4, 0), groups, np.arange(ROWS, dtype=np.int32))
    return tiles, size // 320


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20), tokens=st.integers(1, 17), fine=st.booleans(), level=st.sampled_from([2, 3]))
def test_two_halves_make_the_whole_bit_for_bit(seed: int, tokens: int, fine: bool, level: int) -> None:
    use = kernels(level)
    assert use is not None
    tiles, count = tiles_of(a_matrix(seed))
    upper, lower = split(use, tiles, count)
    x = np.random.default_rng(seed).standard_normal((tokens, COLS)).astype(np.float32)

    whole = multiply(use, Matrix(tiles.ctypes.data, None, ROWS, COLS, Q4, 0), x, fine)
    halves = multiply(use, Matrix(upper.ctypes.data, lower.ctypes.data, ROWS, COLS, Q22, 0), x, fine)

    assert np.array_equal(whole, halves)
    assert (len(upper), len(lower)) == (count * 192, count * 128)


def test_upper_halves_alone_are_the_numbers_to_the_nearest_of_four() -> None:
    assert BEST is not None
    groups = a_matrix(5)
    tiles, count = tiles_of(groups)
    upper, _ = split(BEST, tiles, count)
    coarse = Groups(Q4, groups.q // 4 * 4, groups.d, groups.m)
    steps = np.repeat(groups.d.astype(np.float32), 32, axis=1)
    minima = np.repeat(np.asarray(groups.m, dtype=np.float32), 32, axis=1)
    weights = (coarse.q.astype(np.float32) + 1.5) * steps + minima
    x = np.random.default_rng(6).standard_normal((3, COLS)).astype(np.float32)

    got = multiply(BEST, Matrix(upper.ctypes.data, None, ROWS, COLS, Q2, 0), x, True)

    assert np.abs(got - x @ weights[:, :COLS].T).max() < 2e-3 * np.abs(got).max()


@pytest.mark.parametrize("level", [2, 3])
def test_bfloat16_is_computed_in_floats(level: int) -> None:
    use = kernels(level)
    assert use is not None
    weights = np.random.default_rng(7).standard_normal((ROWS, COLS)).astype(np.float32)
    x = np.random.default_rng(8).standard_normal((11, COLS)).astype(np.float32)
    to = np.random.default_rng(9).permutation(ROWS).astype(np.int32)
    exact = (weights.view(np.uint32) & 0xFFFF0000).view(np.float32)
    matrix = Matrix(None, None, ROWS, COLS, BF16, 0)

    with Arena(use, use.library.fp_matrix_bytes(ROWS, COLS, BF16)) as arena:
        matrix.tiles = arena.address
        pack_bfloat16(use, matrix, exact, to)
        together = multiply(use, matrix, x, True)
        alone = np.concatenate([multiply(use, matrix, row[None], True) for row in x])

    want = x @ exact.T
    assert np.abs(together[:, to] - want).max() < 1e-5 * np.abs(want).max()
    assert np.array_equal(together, alone)


def test_numbers_between_two_bfloat16_go_to_the_nearer() -> None:
    assert BEST is not None
    weights = np.array([[1.0 + 2**-8 + 2**-20, 1.0 + 2**-8 - 2**-20, 1.0 + 2**-8, 1.0 + 3 * 2**-8]], np.float32)
    tiles = np.zeros(1024, np.uint8)

    pack_bfloat16(BEST, Matrix(tiles.ctypes.data, None, 1, 4, BF16, 0), weights, np.zeros(1, np.int32))

    halves = tiles.view(np.uint16).reshape(32, 16)[:4, 0].astype(np.uint32) << 16
    assert halves.view(np.float32).tolist() == [1.0 + 2**-7, 1.0, 1.0, 1.0 + 2**-6]
