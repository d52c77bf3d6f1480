"""Rotary frequencies. Knows no model and no torch."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from local_runtime.models.spec import LinearScaling, Llama3Scaling, Rope, Unturned

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]


def frequencies(rope: Rope, head_dim: int) -> Floats:
    """Radians per position of every pair, float32 [head_dim / 2]; 0 for pairs that do not turn."""
    width = rope.width or head_dim
    exponents = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
    turning = _scaled(np.float32(1) / np.float32(rope.theta) ** exponents, rope)
    return np.pad(turning, (0, (head_dim - width) // 2))


def paired(rope: Rope, head_dim: int) -> Places:
    """Where each stored row of a head goes so that rotary pairs lie side by side; int64 [head_dim]."""
    at = np.arange(head_dim)
    if rope.interleaved:
        return at
    half = (rope.width or head_dim) // 2
    return np.where(at < 2 * half, at % half * 2 + at // half, at)


def _scaled(plain: Floats, rope: Rope) -> Floats:
    match rope.scaling:
        case Unturned():
            return np.zeros_like(plain)
        case None:
            return plain
        case LinearScaling(factor):
            return plain / np.float32(factor)
        case Llama3Scaling() as scaling:
            return _llama3(plain, scaling)


def _llama3(plain: Floats, scaling: Llama3Scaling) -> Floats:
    """Keep what turns `high_freq_factor` times in the original context, slow what turns less than `low_freq_factor`."""
    turns = scaling.original_context * plain / np.float32(2 * math.pi)
    span = scaling.high_freq_factor - scaling.low_freq_factor
    kept = ((turns - np.float32(scaling.low_freq_factor)) / np.float32(span)).clip(0, 1)
    slowed: Floats = plain * kept + plain / np.float32(scaling.factor) * (1 - kept)
    return slowed
