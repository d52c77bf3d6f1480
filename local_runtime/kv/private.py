"""Keys and values of one sequence alone, layer by layer, so that a policy may drop or round them. Knows no model."""

from __future__ import annotations

import torch

from local_runtime.kv.quantised import GROUP, Packed, joined, pack, unpack
from local_runtime.models.attention import capped


class PlainLayer:
    """Keys and values as they were computed, [kv_heads, count, head_dim]; each head may hold other positions."""

    def __init__(self, observed: int, scale: float, cap: float) -> None:
        self._observed = observed
        self._scale = scale
        self._cap = cap
        self._keys = self._values = self._queries = torch.empty(0)
        self._positions = torch.empty(0, dtype=torch.int64)

    @property
    def count(self) -> int:
        """Keys a head."""
        return self._positions.shape[-1]

    @property
    def bytes(self) -> int:
        """Memory of keys and values; positions and remembered queries are left out."""
        return sum(one.numel() * one.element_size() for one in (self._keys, self._values))

    def append(self, start: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Keys and values [tokens, kv_heads, head_dim] of positions from `start`, and queries alike."""
        positions = torch.arange(start, start + len(keys)).expand(keys.shape[1], -1)
        if self._observed:
            asked = torch.cat([self._queries, queries]) if len(self._queries) else queries
            self._queries = asked[-self._observed :].clone()
        new = keys.transpose(0, 1), values.transpose(0, 1), positions
        if not self.count:
            self._keys, self._values, self._positions = (one.contiguous() for one in new)
            return
        self._keys = torch.cat([self._keys, new[0]], dim=1)
        self._values = torch.cat([self._values, new[1]], dim=1)
        self._positions = torch.cat([self._positions, positions], dim=1)

    def read(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Keys and values, and their positions [kv_heads, count]."""
        return self._keys, self._values, self._positions

    def attention(self) -> torch.Tensor:
        """See Held.attention; the last queries are those of the last positions."""
        kv_heads, last = len(self._keys), len(self._queries)
        queries = self._queries.float().unflatten(1, (kv_heads, -1)).permute(1, 2, 0, 3)
        scores = queries @ self._keys.float().unsqueeze(1).transpose(-1, -2) * self._scale
        if self._cap:
            scores = capped(scores, self._cap)
        end = int(self._positions[0, -1]) + 1
        hidden = self._positions.unsqueeze(1) > torch.arange(end - last, end).unsqueeze(1)
        found: torch.Tensor = scores.masked_fill(hidden.unsqueeze(1), float("-inf")).softmax(dim=-1).flatten(1, 2)
        return found

    def keep(self, chosen: torch.Tensor) -> None:
        """Drop all but the indices `chosen`, [kv_heads, kept] or [1, kept] for all heads alike."""
        chosen = chosen.expand(len(self._keys), -1)
        wide = chosen.unsqueeze(-1).expand(-1, -1, self._keys.shape[-1])
        self._keys, self._values = self._keys.gather(1, wide), self._values.gather(1, wide)
        self._positions = self._positions.gather(1, chosen)


class RoundedLayer:
    """All keys and values: blocks of 32 tokens in few bits, the last 32 to 63 as computed (KIVI, arXiv:2402.02750)."""

    def __init__(self, bits: tuple[int, int]) -> None:
        self._bits = bits
        self._blocks: tuple[Packed, Packed] | None = None
        self._recent = PlainLayer(0, 1.0, 0.0)
        self._rounded = 0

    @property
    def count(self) -> int:
        """Keys a head."""
        return self._rounded + self._recent.count

    @property
    def bytes(self) -> int:
        """Memory of keys and values, scales and lowest values included."""
        return self._recent.bytes + (sum(one.bytes for one in self._blocks) if self._blocks else 0)

    def append(self, start: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """See PlainLayer.append; nothing is rounded before `settle`."""
        self._recent.append(start, queries, keys, values)

    def read(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See PlainLayer.read."""
        keys, values, positions = self._recent.read()
        if self._blocks is None:
            return keys, values, positions
        old = [_apart(unpack(one, keys.dtype), len(keys)) for one in self._blocks]
        before = torch.arange(self._rounded).expand(len(keys), -1)
        return torch.cat([old[0], keys], 1), torch.cat([old[1], values], 1), torch.cat([before, positions], 1)

    def settle(self) -> None:
        """Round whole blocks, all but the last 32 tokens at least."""
        done = (self._recent.count - GROUP) // GROUP * GROUP
        if done <= 0:
            return
        keys, values, _ = self._recent.read()
        new = pack(_blocks(keys[:, :done]), self._bits[0], 1), pack(_blocks(values[:, :done]), self._bits[1], 2)
        old = self._blocks
        self._blocks = (joined(old[0], new[0]), joined(old[1], new[1])) if old else new
        self._rounded += done
        self._recent.keep(torch.arange(done, self._recent.count).unsqueeze(0))

    def attention(self) -> torch.Tensor:
        """Nothing asks."""
        raise NotImplementedError("no policy both rounds and drops")

    def keep(self, chosen: torch.Tensor) -> None:
        """Nothing is dropped."""
        raise NotImplementedError("no policy both rounds and drops")


Layer = PlainLayer | RoundedLayer


def _blocks(x: torch.Tensor) -> torch.Tensor:
    """[blocks * kv_heads, 32, head_dim] of [kv_heads, tokens, head_dim], block after block."""
    blocks: torch.Tensor = x.unflatten(1, (-1, GROUP)).transpose(0, 1).flatten(0, 1)
    return blocks


def _apart(x: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """What `_blocks` was made of."""
    tokens: torch.Tensor = x.unflatten(0, (-1, kv_heads)).transpose(0, 1).flatten(1, 2)
    return tokens
