"""Rotary frequencies and rotation as complex numbers. Knows no model."""

from __future__ import annotations

import math

import torch

from local_runtime.models.spec import LinearScaling, Llama3Scaling, Rope


def frequencies(rope: Rope, head_dim: int) -> torch.Tensor:
    """Radians per position of every pair, float32 [head_dim / 2]."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    plain = 1.0 / (rope.theta**exponents)
    match rope.scaling:
        case None:
            return plain
        case LinearScaling(factor):
            return plain / factor
        case Llama3Scaling() as scaling:
            return _llama3(plain, scaling)


def _llama3(plain: torch.Tensor, scaling: Llama3Scaling) -> torch.Tensor:
    """Keep what turns `high_freq_factor` times in the original context, slow what turns less than `low_freq_factor`."""
    turns = scaling.original_context * plain / (2 * math.pi)
    span = scaling.high_freq_factor - scaling.low_freq_factor
    kept = ((turns - scaling.low_freq_factor) / span).clamp(0, 1)
    return plain * kept + plain / scaling.factor * (1 - kept)


def rotations(positions: torch.Tensor, per_position: torch.Tensor) -> torch.Tensor:
    """Unit complex numbers [positions, 1, head_dim / 2] that turn each pair of a token at each position."""
    angles = torch.outer(positions.float(), per_position)
    return torch.polar(torch.ones_like(angles), angles).unsqueeze(1)


def rotate(heads: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Turn the pairs of `heads` [tokens, heads, head_dim] (pairs side by side); the result keeps the type."""
    pairs = torch.view_as_complex(heads.float().view(*heads.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns).flatten(-2).to(heads.dtype)
