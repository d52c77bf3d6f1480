"""Scaled dot-product attention (arXiv:1706.03762), with or without a cap on scores. Knows no model."""

from __future__ import annotations

import torch
from torch.nn import functional


def attention(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    cap: float,
) -> torch.Tensor:
    """[1, heads, rows, head_dim] from queries of that shape and keys and values [1, heads, seen, head_dim].

    `mask` is added to scores; `cap` 0: none. Capped scores are computed in float32.
    """
    if not cap:
        return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scale)
    scores = capped(queries.float() @ keys.float().transpose(-1, -2) * scale, cap)
    if mask is not None:
        scores = scores + mask
    return scores.softmax(dim=-1).to(values.dtype) @ values


def capped(x: torch.Tensor, cap: float) -> torch.Tensor:
    """Values squeezed softly between -cap and cap (arXiv:2408.00118)."""
    return torch.tanh(x / cap) * cap
