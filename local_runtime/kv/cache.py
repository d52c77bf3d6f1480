"""Keys and values of past tokens, one contiguous stretch a slot. Knows no attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from local_runtime.base import GenerationError


@dataclass(frozen=True, slots=True)
class CacheShape:
    """Sizes of a store: how many layers, slots, key-value heads, elements a head, tokens a slot."""

    layers: int
    slots: int
    kv_heads: int
    head_dim: int
    tokens: int


class SlotCache:
    """Preallocated [slots, keys|values, kv_heads, tokens, head_dim] a layer; pages are touched as sequences grow."""

    def __init__(self, shape: CacheShape, dtype: torch.dtype) -> None:
        self.shape = shape
        size = (shape.slots, 2, shape.kv_heads, shape.tokens, shape.head_dim)
        try:
            self._layers = [torch.empty(size, dtype=dtype) for _ in range(shape.layers)]
        except RuntimeError as error:
            raise GenerationError(
                f"no memory for the keys and values of {shape.slots} sequences of {shape.tokens} tokens: "
                "lower max_batch or context_tokens"
            ) from error

    def write(self, layer: int, slot: int, start: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Store `keys` and `values` [tokens, kv_heads, head_dim] at positions from `start`."""
        end = start + keys.shape[0]
        stored = self._layers[layer][slot]
        stored[0, :, start:end].copy_(keys.transpose(0, 1))
        stored[1, :, start:end].copy_(values.transpose(0, 1))

    def read(self, layer: int, slot: int, first: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of positions first .. end - 1, views [kv_heads, tokens, head_dim]."""
        stored = self._layers[layer][slot]
        return stored[0, :, first:end], stored[1, :, first:end]
