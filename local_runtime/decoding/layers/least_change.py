"""Layers that changed little lately are left out, by the L2 norm of what they add (LAC, arXiv:2505.14467); no training.

A layer's change is known when it has been computed, too late to save it. So the changes are those of the prompt, and of
the tokens that a layer was computed for since; every few tokens all are computed again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from local_runtime.decoding.layers.base import Act, LayerPolicy

if TYPE_CHECKING:
    import torch

_KEPT: Final = 0.5


class LeastChange(LayerPolicy):
    """Leaves out layers whose change, as a share of what comes in, is below `share` of the largest one's.

    The first and the last layer are always computed and stay out of that comparison. Of a prompt's tokens the median
    counts: the first one, which others attend to where there is nothing to say, changes a hundred times as much.
    """

    def __init__(self, layers: int, share: float, again: int = 16) -> None:
        self._share = share
        self._again = again
        self._last = layers - 1
        self._changes = [0.0] * layers
        self._tokens = 0

    def of_token(self, layer: int, hidden: torch.Tensor) -> Act:
        """See LayerPolicy."""
        if layer == 0:
            self._tokens += 1
        if layer in (0, self._last) or self._tokens % self._again == 0:
            return Act.COMPUTE
        least = self._share * max(self._changes[1 : self._last])
        return Act.SKIP if self._changes[layer] < least else Act.COMPUTE

    def changed(self, layer: int, before: torch.Tensor, after: torch.Tensor) -> None:
        """See LayerPolicy."""
        change = float(((after - before).norm(dim=-1) / before.norm(dim=-1)).median())
        known = self._changes[layer]
        self._changes[layer] = known * _KEPT + change * (1 - _KEPT) if known else change
