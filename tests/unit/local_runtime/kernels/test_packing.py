"""Weights in groups of 32: what rounding keeps, and GGUF's kinds beside the gguf library's own reading."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize
from hypothesis import given
from hypothesis import strategies as st

from local_runtime.kernels.abi import GROUP, Q4, Q8, Q8M
from local_runtime.kernels.packing import KEPT, Blocks, Floats, Groups, in_turns, rounded, taken_apart, widened

KINDS = [gguf.GGMLQuantizationType[name] for name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K")]


def said(groups: Groups) -> Floats:
    """The weights that groups stand for."""
    q = groups.q.astype(np.float32).reshape(*groups.d.shape, GROUP)
    d = groups.d.astype(np.float32)[..., None]
    m = d * -128 if groups.m is None else groups.m.astype(np.float32)[..., None]
    return np.asarray((q * d + m).reshape(groups.q.shape), dtype=np.float32)


def blocks_of(kind: gguf.GGMLQuantizationType, rows: int = 6, cols: int = 512) -> Blocks:
    """Random blocks; of kinds that the library can't write, random bytes with sane scales."""
    rng = np.random.default_rng(int(kind))
    size, bytes_each = gguf.GGML_QUANT_SIZES[kind]
    if kind.name.endswith("_K"):
        raw = rng.integers(0, 256, (rows * cols // size, bytes_each), dtype=np.uint8)
        raw[:, :4] = rng.uniform(0.01, 0.1, (len(raw), 2)).astype(np.float16).view(np.uint8)
    else:
        raw = quantize(rng.standard_normal((rows, cols)).astype(np.float32), kind)
    return Blocks(int(kind), np.ascontiguousarray(raw).reshape(-1), rows, cols)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_kinds_of_gguf_are_read_as_the_gguf_library_reads_them(kind: gguf.GGMLQuantizationType) -> None:
    blocks = blocks_of(kind)
    want = dequantize(blocks.data.reshape(blocks.rows, -1), kind)

    groups = taken_apart(blocks)

    assert groups.form == KEPT[blocks.kind]
    step = groups.d.astype(np.float32).max()
    # Products of scales are rounded to half precision: a thousandth of what is multiplied.
    assert np.abs(said(groups) - want).max() < (step * 32 / 1000 if kind.name.endswith("_K") else 1e-6)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_wider_form_says_the_same(kind: gguf.GGMLQuantizationType) -> None:
    blocks = blocks_of(kind)

    wide = widened(blocks)

    assert wide.form == Q8M and np.array_equal(said(wide), said(taken_apart(blocks)))


@given(
    st.integers(1, 5),
    st.integers(1, 70),
    st.floats(1e-3, 1e3),
    st.integers(0, 2**32 - 1),
    st.sampled_from([Q4, Q8]),
)
def test_rounding_is_off_by_half_a_step_at_most(rows: int, cols: int, size: float, seed: int, form: int) -> None:
    weights = (np.random.default_rng(seed).standard_normal((rows, cols)) * size).astype(np.float32)

    groups = rounded(weights, form)

    whole = -(-cols // GROUP) * GROUP
    assert groups.q.shape == (rows, whole) and groups.d.shape == (rows, whole // GROUP)
    # Scales and minima are halves: their own rounding, over the whole range, comes on top of half a step.
    steps = np.repeat(groups.d.astype(np.float32), GROUP, axis=1)[:, :cols]
    slack = steps * (0.5 + 0.01 * (15 if form == Q4 else 127) / 15) + np.abs(weights).max() * 1e-3
    assert (np.abs(said(groups)[:, :cols] - weights) <= slack).all()


def test_what_was_rounded_once_stays() -> None:
    weights = np.random.default_rng(0).standard_normal((9, 96)).astype(np.float32)

    once = said(rounded(weights, Q8))

    assert np.array_equal(said(rounded(once, Q8)), once)


def test_weights_of_nothing_are_nothing() -> None:
    for form in (Q4, Q8):
        assert not said(rounded(np.zeros((2, 64), dtype=np.float32), form)).any()


def test_gate_and_up_take_turns_in_strips_of_sixteen() -> None:
    gate, up = in_turns(40, 0), in_turns(40, 1)

    assert len({*gate, *up}) == 80
    assert [gate[0], gate[15], up[0], up[15], gate[16], up[39]] == [0, 15, 16, 31, 32, 87]
