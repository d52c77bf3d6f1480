"""The seam of policies on layers: hidden states before a layer in, whether it is computed out."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Act(Enum):
    """What happens at a layer: it is computed, or left out, or it and all behind it are left out."""

    COMPUTE = 0
    SKIP = 1
    LEAVE = 2


class LayerPolicy:
    """One instance per sequence; this one computes everything. `spent`: products beyond the model's own, in layers."""

    spent: float = 0.0

    def of_prompt(self, layer: int, hidden: torch.Tensor) -> bool:
        """Whether a part of a prompt, hidden states [rows, hidden], is computed by the layer."""
        return True

    def of_token(self, layer: int, hidden: torch.Tensor) -> Act:
        """What is done with the hidden state [hidden] of a token that has come behind the prompt."""
        return Act.COMPUTE

    def changed(self, layer: int, before: torch.Tensor, after: torch.Tensor) -> None:
        """A layer was computed; rows [rows, hidden]."""

    def read(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        """The hidden state [hidden] to read the next token from where it has left before `layer`."""
        return hidden

    def ended(self, token: int, hidden: torch.Tensor) -> None:
        """The token's last hidden state [hidden], as it was read."""
