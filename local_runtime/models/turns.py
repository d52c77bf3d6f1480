"""Rotary position embedding (arXiv:2104.09864) of torch's tensors. Knows no model."""

from __future__ import annotations

import torch


def rotations(positions: torch.Tensor, per_position: torch.Tensor, magnitude: float = 1.0) -> torch.Tensor:
    """Complex numbers [positions, 1, pairs] of one magnitude that turn each pair of a token at each position."""
    angles = torch.outer(positions.float(), per_position)
    return torch.polar(torch.full_like(angles, magnitude), angles).unsqueeze(1)


def rotated(heads: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Turn the pairs of `heads` [tokens, heads, elements] (pairs side by side); the result keeps the type."""
    pairs = torch.view_as_complex(heads.float().reshape(*heads.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns).flatten(-2).to(heads.dtype)
