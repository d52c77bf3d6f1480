"""The native kernels beside their own arithmetic in numpy, and bit for bit beside themselves."""

from __future__ import annotations

import numpy as np
import pytest

from local_runtime.kernels.abi import GROUP, Q4, Q8, Q8M, Matrix
from local_runtime.kernels.library import Arena, Kernels, kernels, multiply
from local_runtime.kernels.packing import Floats, Groups, pack, rounded, widened

BEST = kernels()
pytestmark = pytest.mark.skipif(BEST is None, reason="the native kernels were not built, or the processor has no AVX2")
FORMS = {Q4: "4 bits", Q8: "8 bits", Q8M: "8 bits with minima"}


def groups_of(form: int, rows: int, cols: int, seed: int = 0) -> Groups:
    weights = np.random.default_rng(seed).standard_normal((rows, cols)).astype(np.float32)
    return widened(rounded(weights, Q4)) if form == Q8M else rounded(weights, form)


def matrix_of(use: Kernels, groups: Groups, cols: int) -> tuple[Matrix, Arena]:
    rows = len(groups.q)
    arena = Arena(use, use.library.fp_matrix_bytes(rows, cols, groups.form) + 8192)
    matrix = Matrix(arena.address, None, rows, cols, groups.form, 0)
    pack(use, matrix, groups, np.arange(rows, dtype=np.int32))
    return matrix, arena


def rounded_activations(x: Floats, fine: bool) -> tuple[Floats, Floats]:
    """Whole numbers [rows, groups, 32] and scales [rows, groups, 1], as the kernels make them."""
    padded = np.zeros((len(x), -(-x.shape[1] // GROUP) * GROUP), dtype=np.float32)
    padded[:, : x.shape[1]] = x
    groups = padded.reshape(len(x), -1, GROUP)
    most = np.abs(groups).max(axis=-1, keepdims=True)
    span = np.float32(32512 if fine else 127)
    return np.rint(groups * (span / most)), most / span


def emulated(groups: Groups, x: Floats, fine: bool) -> Floats:
    """Integer products of each group, then scales, summed in float64."""
    numbers, scales = rounded_activations(x, fine)
    q = groups.q.reshape(len(groups.q), -1, GROUP).astype(np.float64)
    d = groups.d.astype(np.float64)
    m = d * -128 if groups.m is None else groups.m.astype(np.float64)
    dots = np.einsum("xgk,wgk->xwg", numbers.astype(np.float64), q)
    sums = numbers.astype(np.float64).sum(axis=-1)[:, None, :]
    out = (dots * d + sums * m) * scales[:, None, :, 0]
    return np.asarray(out.sum(axis=-1), dtype=np.float32)


@pytest.mark.parametrize("fine", [True, False], ids=["16 bits", "8 bits"])
@pytest.mark.parametrize("form", FORMS, ids=FORMS.values())
@pytest.mark.parametrize(
    ("rows", "cols", "tokens"), [(16, 32, 1), (48, 64, 8), (37, 40, 3), (100, 608, 17), (5, 96, 9)]
)
def test_products_are_those_of_the_arithmetic_in_numpy(
    rows: int, cols: int, tokens: int, form: int, fine: bool
) -> None:
    assert BEST is not None
    groups = groups_of(form, rows, cols)
    x = np.random.default_rng(1).standard_normal((tokens, cols)).astype(np.float32)
    matrix, arena = matrix_of(BEST, groups, cols)

    with arena:
        got = multiply(BEST, matrix, x, fine)

    want = emulated(groups, x, fine)
    assert got.shape == (tokens, rows)
    assert np.abs(got - want).max() < 2e-6 * np.abs(want).max() * (cols / GROUP)


@pytest.mark.parametrize("fine", [True, False], ids=["16 bits", "8 bits"])
@pytest.mark.parametrize("form", FORMS, ids=FORMS.values())
def test_rows_come_out_alike_whatever_is_beside_them(form: int, fine: bool) -> None:
    assert BEST is not None
    x = np.random.default_rng(2).standard_normal((19, 160)).astype(np.float32)
    matrix, arena = matrix_of(BEST, groups_of(form, 40, 160), 160)

    with arena:
        together = multiply(BEST, matrix, x, fine)
        alone = np.concatenate([multiply(BEST, matrix, row[None], fine) for row in x])

    assert np.array_equal(together, alone)


@pytest.mark.parametrize("fine", [True, False], ids=["16 bits", "8 bits"])
@pytest.mark.parametrize("form", FORMS, ids=FORMS.values())
def test_every_instruction_set_gives_the_same_bits(form: int, fine: bool) -> None:
    levels = [found for level in (2, 3) if (found := kernels(level))]
    # The largest activations and weights that there are, so that no sum may run over.
    x = np.random.default_rng(3).choice([-1.0, 1.0], (9, 320)).astype(np.float32)
    x[4:] = np.random.default_rng(4).standard_normal((5, 320)) * 1e4
    groups = groups_of(form, 33, 320)
    groups.q[:16] = 15 if form == Q4 else 255
    matrix, arena = matrix_of(levels[0], groups, 320)

    with arena:
        results = [multiply(level, matrix, x, fine) for level in levels]

    assert all(np.array_equal(result, results[0]) for result in results)
    assert np.abs(results[0] - emulated(groups, x, fine)).max() < 1e-4 * np.abs(results[0]).max()


def test_activations_of_16_bits_lose_next_to_nothing() -> None:
    assert BEST is not None
    groups = groups_of(Q8, 64, 320)
    x = np.random.default_rng(5).standard_normal((4, 320)).astype(np.float32)
    x[:, ::32] *= 300  # what makes 8 bits lose: one large number in a group
    weights = (groups.q.astype(np.float32) - 128) * np.repeat(groups.d.astype(np.float32), GROUP, axis=1)
    matrix, arena = matrix_of(BEST, groups, 320)

    with arena:
        fine, coarse = (np.abs(multiply(BEST, matrix, x, bits) - x @ weights.T).max() for bits in (True, False))

    assert fine < coarse / 100
