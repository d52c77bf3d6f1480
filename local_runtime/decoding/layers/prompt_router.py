"""A linear router a layer says by a prompt's hidden states whether to compute it, for the prompt and its answer.

As FiRST (arXiv:2410.12513) decides once for a sequence, so that keys and values of layers left out are never wanted;
and as Dr.LLM (arXiv:2510.12773) learns from what leaving out was found to cost, prompt by prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from local_runtime.decoding.depth import Layers
from local_runtime.decoding.layers.base import Act, LayerPolicy


@dataclass(frozen=True, slots=True)
class Routers:
    """By layer what it costs to leave it out, in nats a token: `mean` [layers], and what a prompt adds to that by its
    mean hidden state before the layer, less `center` [layers, hidden], times `slope` [layers, hidden]."""

    mean: torch.Tensor
    center: torch.Tensor
    slope: torch.Tensor

    def cost(self, layer: int, hidden: torch.Tensor) -> float:
        """Of one layer, by hidden states [rows, hidden]."""
        return float(self.mean[layer] + (hidden.mean(dim=0) - self.center[layer]) @ self.slope[layer])

    def cheapest(self, pooled: torch.Tensor, keep: int) -> Layers:
        """So many layers for a prompt with mean hidden states [layers, hidden] before its layers."""
        costs = self.mean + ((pooled - self.center) * self.slope).sum(dim=1)
        return most_costly(costs, keep)


def most_costly(costs: torch.Tensor, keep: int) -> Layers:
    """The layers that it costs most to leave out, the first and the last always; in order."""
    inner = costs.clone()
    inner[[0, -1]] = float("inf")
    return tuple(sorted(inner.topk(keep).indices.tolist()))


class PromptRouter(LayerPolicy):
    """Leaves out layers of which its router expects a cost below `least`. It sees a prompt's first part, as it is when
    layers before have been left out. The first and the last layer are always computed."""

    def __init__(self, routers: Routers, least: float) -> None:
        self._routers = routers
        self._least = least
        self._wanted: dict[int, bool] = {}

    def of_prompt(self, layer: int, hidden: torch.Tensor) -> bool:
        """See LayerPolicy."""
        if layer not in self._wanted:
            always = layer in (0, len(self._routers.mean) - 1)
            self._wanted[layer] = always or self._routers.cost(layer, hidden) >= self._least
        return self._wanted[layer]

    def of_token(self, layer: int, hidden: torch.Tensor) -> Act:
        """See LayerPolicy."""
        return Act.COMPUTE if self._wanted[layer] else Act.SKIP
