"""Rounding of weights to int8, in numpy alone; must not know where the weights come from or what runs them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Int8s = npt.NDArray[np.int8]

FULL_RANGE = 127
# Two products of an unsigned 8-bit and a 7-bit number fit in 16 bits. x86 processors without VNNI add such pairs in 16
# bits and cut what does not fit, so on them the full range gives wrong sums.
HALF_RANGE = 63


def by_column(weight: Floats, levels: int) -> tuple[Int8s, Floats]:
    """Symmetric int8 with one scale per output channel: `[inputs, outputs]` -> the same shape, and `[outputs]`."""
    scale = _nonzero(np.abs(weight).max(axis=0) / levels)
    return np.rint(weight / scale).astype(np.int8), scale


def by_row(table: Floats) -> tuple[Int8s, Floats]:
    """Symmetric int8 with one scale per row: `[rows, width]` -> the same shape, and `[rows, 1]`."""
    scale = _nonzero(np.abs(table).max(axis=1, keepdims=True) / FULL_RANGE)
    return np.rint(table / scale).astype(np.int8), scale


def smoothing(peaks: Floats, weight: Floats) -> Floats:
    """How much to divide each input channel by (and multiply its weights by), so that a few loud channels do not take
    all the levels: sqrt(peak / largest weight), geometric mean 1. SmoothQuant, Xiao et al. 2023, alpha = 0.5.

    Rounded to half powers of two: peaks measured on another processor differ in the last bits, the weights must not.
    """
    raw = np.log2(np.maximum(peaks, 1e-5)) / 2 - np.log2(np.maximum(np.abs(weight).max(axis=1), 1e-5)) / 2
    halves = np.rint(2 * (raw - raw.mean())) / 2
    divisors: Floats = np.exp2(halves).astype(np.float32)
    return divisors


def _nonzero(scale: Floats) -> Floats:
    return np.where(scale > 0, scale, 1).astype(np.float32)
