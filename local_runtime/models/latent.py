"""Multi-head latent attention (arXiv:2405.04434): one latent a token in the place of all heads' keys and values.

The matrices that would make keys and values of a latent are applied to queries and to what attention gives instead
(2.1.2 there), so that all heads attend to one shared key of `rank + turned` elements, whose first `rank` are the value.
Up to about 170 rows a step, more than a prompt's chunks have, that takes less than making keys and values of all
positions anew (at the widths of DeepSeek-V2-Lite).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from local_runtime.models.spec import Latent
from local_runtime.models.turns import rotated

# Of the norms of latents, whatever rms_norm_eps says.
_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class LatentWeights:
    """`query_norm` and `query_up` [heads * (plain + turned), query_rank] where queries have a latent; `norm` [rank],
    `key_up` [heads, plain, rank], `value_up` [heads, value, rank]."""

    query_norm: torch.Tensor | None
    query_up: torch.Tensor | None
    norm: torch.Tensor
    key_up: torch.Tensor
    value_up: torch.Tensor


Heads = tuple[torch.Tensor, torch.Tensor]


def latent_heads(latent: Latent, weights: LatentWeights, inward: torch.Tensor, turns: torch.Tensor) -> Heads:
    """Queries [rows, heads, rank + turned] and keys [rows, 1, rank + turned] of what is side by side in `inward`:
    queries or their latents, latents, and turned elements of keys."""
    asked, low, turning = inward.split([inward.shape[1] - latent.width, latent.rank, latent.turned], dim=1)
    if weights.query_up is not None and weights.query_norm is not None:
        asked = functional.linear(_normed(asked, weights.query_norm), weights.query_up)
    plain, turned = asked.unflatten(1, (-1, latent.plain + latent.turned)).split([latent.plain, latent.turned], dim=2)
    lowered = torch.einsum("rhp,hpk->rhk", plain, weights.key_up)
    queries = torch.cat([lowered, rotated(turned, turns)], dim=2)
    keys = torch.cat([_normed(low, weights.norm).unsqueeze(1), rotated(turning.unsqueeze(1), turns)], dim=2)
    return queries, keys


def raised(weights: LatentWeights, mixed: torch.Tensor) -> torch.Tensor:
    """[rows, heads * value] of mixed latents [rows, heads * rank]."""
    heads, _, rank = weights.value_up.shape
    return torch.einsum("rhk,hvk->rhv", mixed.view(-1, heads, rank), weights.value_up).flatten(1)


def _normed(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return functional.rms_norm(x.float(), weight.shape, weight, _EPS).to(x.dtype)
