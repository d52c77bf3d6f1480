"""All tokens, in fewer bits where that does least harm (KVTuner, arXiv:2502.04420)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from local_runtime.kv.policies.base import Held
from local_runtime.kv.quantised import WIDTHS

AS_COMPUTED = (16, 16)


class MixedBits:
    """Bits of keys and of values, a pair for each layer; one pair stands for all layers; (16, 16): as computed."""

    observed = 0

    def __init__(self, pairs: Sequence[tuple[int, int]]) -> None:
        if not pairs or any(pair != AS_COMPUTED and not set(pair) <= set(WIDTHS) for pair in pairs):
            raise ValueError(f"kv_policy: bits must come in pairs (keys, values) of {WIDTHS}, or be {AS_COMPUTED}")
        self.after_prompt = False
        self.pairs = tuple(pairs)

    def bits(self, layer: int) -> tuple[int, int] | None:
        """The layer's pair; ValueError where there is none."""
        if len(self.pairs) > 1 and layer >= len(self.pairs):
            raise ValueError(f"kv_policy: bits for {len(self.pairs)} layers, the model has more")
        pair = self.pairs[min(layer, len(self.pairs) - 1)]
        return None if pair == AS_COMPUTED else pair

    def keep(self, layers: Sequence[Held]) -> list[torch.Tensor] | None:
        """All."""
        return None
