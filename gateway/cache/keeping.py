"""What an answer weighs and is worth to a store, and what a quota means for the pools that answers lie in.

The arithmetic that all stores share, so that each keeps and gives up the same answers; knows no store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from gateway.cache.base import Quota, Stored

# What making an answer costs beside its price is time: a token of output counts as the cheapest hosted models ask.
OUTPUT_TOKEN_NANOUSD: Final = 100
# Categories without a reserved share lie together.
SHARED_POOL: Final = ""
_UNIT_SLACK: Final = 0.05


def size_of(stored: Stored) -> int:
    """Bytes that count for the quota: body, text and vector, as they are in memory."""
    vector = 0 if stored.vector is None else stored.vector.nbytes
    return len(stored.body) + len(stored.text.encode("utf-8", "surrogatepass")) + vector


def worth_of(stored: Stored) -> float:
    """What one hit saves, in nano-USD; never 0, so that of free answers those that are asked for stay."""
    return 1.0 + stored.cost_nanousd + OUTPUT_TOKEN_NANOUSD * stored.output_tokens


@dataclass(frozen=True, slots=True)
class Limits:
    """A quota as the stores reckon with it: entries and bytes, of the tenant and those that a pool is sure of."""

    most: tuple[int, int]
    sure: Mapping[str, tuple[int, int]]

    @classmethod
    def of(cls, quota: Quota) -> Limits:
        """Shares that sum to more than all are scaled down."""
        whole = max(1.0, sum(share for _, share in quota.reserved))
        sure = {
            name: (int(quota.entries * share / whole), int(quota.bytes * share / whole))
            for name, share in quota.reserved
        }
        return cls((quota.entries, quota.bytes), sure)

    def pool_of(self, stored: Stored) -> str:
        """Where the answer is counted."""
        return stored.category if stored.category in self.sure else SHARED_POOL

    def sure_of(self, pool: str) -> tuple[int, int]:
        """What others may not take from it."""
        return self.sure.get(pool, (0, 0))


def findable(stored: Stored) -> Stored:
    """The answer; where its vector is not of unit length (or no number) it can be found by an exact repeat only."""
    vector = stored.vector
    if vector is None or (vector.ndim == 1 and abs(float(np.dot(vector, vector)) - 1.0) < _UNIT_SLACK):
        return stored
    return replace(stored, text="", vector=None, embedder="")
