"""Keys and values of past tokens in pages. Knows no attention."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import torch

from local_runtime.base import GenerationError
from local_runtime.kv.pages import PAGE


@dataclass(frozen=True, slots=True)
class CacheShape:
    """Sizes of a store: how many layers, pages of 16 positions, key-value heads, elements a head.

    `latent`: values are so many first elements of keys, and kept once; 0: they are something else.
    """

    layers: int
    pages: int
    kv_heads: int
    head_dim: int
    latent: int = 0


class PagedCache:
    """Preallocated [pages, 16, keys|values, kv_heads, head_dim] a layer; memory is taken as pages are written."""

    def __init__(self, shape: CacheShape, dtype: torch.dtype) -> None:
        self.shape = shape
        size = (shape.pages, PAGE, 1 if shape.latent else 2, shape.kv_heads, shape.head_dim)
        try:
            self._layers = [torch.empty(size, dtype=dtype) for _ in range(shape.layers)]
        except RuntimeError as error:
            raise GenerationError(
                f"no memory for the keys and values of {shape.pages * PAGE} tokens: lower max_batch or context_tokens"
            ) from error

    def places(self, pages: array[int], first: int, end: int) -> torch.Tensor:
        """Where positions first .. end - 1 lie: int64 [positions], for `write` and `read` of every layer."""
        held = torch.tensor(pages[first // PAGE : -(-end // PAGE)], dtype=torch.int64)
        all_places = (held.unsqueeze(1) * PAGE + torch.arange(PAGE)).flatten()
        skipped = first % PAGE
        return all_places[skipped : skipped + end - first]

    def write(self, layer: int, places: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Store `keys` and `values` [tokens, kv_heads, head_dim]."""
        flat = self._layers[layer].flatten(0, 1)
        flat[places] = keys.unsqueeze(1) if self.shape.latent else torch.stack([keys, values], dim=1)

    def read(self, layer: int, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values, [kv_heads, tokens, head_dim] each."""
        found = self._layers[layer].flatten(0, 1)[places]
        if self.shape.latent:
            keys = found[:, 0].transpose(0, 1)
            return keys, keys[..., : self.shape.latent]
        return found[:, 0].transpose(0, 1), found[:, 1].transpose(0, 1)
