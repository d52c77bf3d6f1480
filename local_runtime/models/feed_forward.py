"""The part of a layer that sees each token alone, dense or as a mixture of experts. Knows no positions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from local_runtime.models.packed import product
from local_runtime.models.spec import Moe
from local_runtime.models.weights import DenseWeights, MoeWeights

# Of a product's name, inputs and outputs: outputs with what adapters add.
PutOn = Callable[[str, torch.Tensor, torch.Tensor], torch.Tensor]


def _as_it_is(_: str, __: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    return outputs


def feed_forward(
    ffn: DenseWeights | MoeWeights, x: torch.Tensor, before: torch.Tensor | None, put_on: PutOn = _as_it_is
) -> torch.Tensor:
    """[rows, hidden]; `before` is what the sparse layer before this one got, None: there is none."""
    if isinstance(ffn, MoeWeights):
        return _experts(ffn, x, x if before is None or not ffn.moe.early else before)
    inside = _gated(put_on("gate_up", x, product(x, ffn.gate_up, ffn.gate_up_bias)), ffn.gelu)
    return put_on("down", inside, product(inside, ffn.down, ffn.down_bias))


def _gated(gate_up: torch.Tensor, gelu: bool = False) -> torch.Tensor:
    """SiLU(gate) * up (arXiv:2002.05202), or GELU's tanh form; gate and up side by side in the last dimension."""
    gate, up = gate_up.chunk(2, dim=-1)
    return (functional.gelu(gate, approximate="tanh") if gelu else functional.silu(gate)) * up


def _experts(ffn: MoeWeights, x: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """Top-k routed SwiGLU experts (arXiv:2401.04088); float32 [rows, hidden], router probabilities in float32.

    The router reads `asked`.
    """
    weights, chosen = routes(ffn.moe, functional.linear(asked, ffn.router).float())
    mixed = torch.zeros(x.shape, dtype=torch.float32)
    for expert in torch.bincount(chosen[chosen >= 0]).nonzero().flatten().tolist():
        rows, rank = torch.where(chosen == expert)
        out = functional.linear(_gated(functional.linear(x[rows], ffn.gate_up[expert])), ffn.down[expert])
        mixed.index_add_(0, rows, out.float() * weights[rows, rank].unsqueeze(1))
    if ffn.shared is not None:
        shared = feed_forward(ffn.shared, x, None).float()
        if ffn.shared_router is not None:
            shared *= torch.sigmoid(functional.linear(x, ffn.shared_router).float())
        mixed += shared
    return mixed


def routes(moe: Moe, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and numbers of the chosen experts [rows, active] from what the router says [rows, experts]; -1 where a
    row is content with fewer."""
    likely = scores.softmax(dim=-1)
    weights, chosen = (_in_best_groups(moe, likely) if moe.groups > 1 else likely).topk(moe.active, dim=-1)
    spared = weights.cumsum(dim=-1) - weights >= moe.top_p
    weights, chosen = weights.masked_fill(spared, 0.0), chosen.masked_fill(spared, -1)
    if moe.even:
        weights = torch.ones_like(weights).masked_fill(spared, 0.0)
    elif moe.normalise:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return weights * moe.scale, chosen


def _in_best_groups(moe: Moe, likely: torch.Tensor) -> torch.Tensor:
    """Probabilities [rows, experts], those outside of the groups with the likeliest expert less than any."""
    grouped = likely.unflatten(1, (moe.groups, -1))
    best = grouped.amax(dim=2).topk(moe.active_groups, dim=1).indices
    allowed = torch.zeros(grouped.shape[:2], dtype=torch.bool).scatter_(1, best, True)
    found: torch.Tensor = grouped.masked_fill(~allowed.unsqueeze(2), -1.0).flatten(1)
    return found
