"""Rotary frequencies. Knows no model and no torch."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from local_runtime.models.spec import LinearScaling, Llama3Scaling, Rope, Unturned, Yarn

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]


def frequencies(rope: Rope, head_dim: int) -> Floats:
    """Radians per position of every pair, float32 [head_dim / 2]; 0 for pairs that do not turn."""
    width = rope.width or head_dim
    exponents = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
    turning = _scaled(np.float32(1) / np.float32(rope.theta) ** exponents, rope, width)
    return np.pad(turning, (0, (head_dim - width) // 2))


def paired(rope: Rope, head_dim: int) -> Places:
    """Where each stored row of a head goes so that rotary pairs lie side by side; int64 [head_dim]."""
    at = np.arange(head_dim)
    if rope.interleaved:
        return at
    half = (rope.width or head_dim) // 2
    return np.where(at < 2 * half, at % half * 2 + at // half, at)


def yarn_magnitude(factor: float, weight: float = 1.0) -> float:
    """How much YaRN stretches queries and keys for a context `factor` times as long (arXiv:2309.00071, 3.4)."""
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


def _scaled(plain: Floats, rope: Rope, width: int) -> Floats:
    match rope.scaling:
        case Unturned():
            return np.zeros_like(plain)
        case None:
            return plain
        case LinearScaling(factor):
            return plain / np.float32(factor)
        case Llama3Scaling() as scaling:
            return _llama3(plain, scaling)
        case Yarn() as scaling:
            return _yarn(plain, scaling, rope.theta, width)


def _llama3(plain: Floats, scaling: Llama3Scaling) -> Floats:
    """Keep what turns `high_freq_factor` times in the original context, slow what turns less than `low_freq_factor`."""
    turns = scaling.original_context * plain / np.float32(2 * math.pi)
    span = scaling.high_freq_factor - scaling.low_freq_factor
    kept = ((turns - np.float32(scaling.low_freq_factor)) / np.float32(span)).clip(0, 1)
    slowed: Floats = plain * kept + plain / np.float32(scaling.factor) * (1 - kept)
    return slowed


def _yarn(plain: Floats, scaling: Yarn, theta: float, width: int) -> Floats:
    """Keep pairs below the one that turns `beta_fast` times in the original context, slow those above `beta_slow`'s."""
    turns = (scaling.beta_fast, scaling.beta_slow)
    low, high = (
        width * math.log(scaling.original_context / (each * 2 * math.pi)) / (2 * math.log(theta)) for each in turns
    )
    if scaling.whole:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    span = high - low if high != low else 0.001
    slowed = ((np.arange(len(plain), dtype=np.float32) - np.float32(low)) / np.float32(span)).clip(0, 1)
    blended: Floats = plain / np.float32(scaling.factor) * slowed + plain * (1 - slowed)
    return blended
