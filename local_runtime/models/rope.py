"""Rotary frequencies. Knows no model and no torch."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from local_runtime.models.spec import LinearScaling, Llama3Scaling, Rope

Floats = npt.NDArray[np.float32]


def frequencies(rope: Rope, head_dim: int) -> Floats:
    """Radians per position of every pair, float32 [head_dim / 2]."""
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    plain = np.float32(1) / np.float32(rope.theta) ** exponents
    match rope.scaling:
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
