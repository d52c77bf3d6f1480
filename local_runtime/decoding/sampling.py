"""Random decoding: penalties, temperature, top-k, top-p, min-p in this order, then one draw from the sequence's own
generator, so that a seed gives the same tokens whatever else is in the batch."""

from __future__ import annotations

import numpy as np

from local_runtime.base import Sampling
from local_runtime.decoding import filters
from local_runtime.decoding.base import DecodingStrategy, History, Row
from local_runtime.decoding.greedy import Greedy, adjusted


class RandomDraw:
    """A DecodingStrategy with its own generator; without a seed it is seeded by the operating system."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        seed = None if sampling.seed is None else sampling.seed % 2**64
        self._generator = np.random.default_rng(seed)

    def choose(self, logits: Row, history: History) -> int:
        """See DecodingStrategy.choose."""
        sampling = self._sampling
        row = filters.scaled(adjusted(logits, history, sampling), sampling.temperature)
        row = filters.top_k(row, sampling.top_k)
        row = filters.top_p(row, sampling.top_p)
        row = filters.min_p(row, sampling.min_p)
        return filters.draw(row, self._generator.random())


def strategy_for(sampling: Sampling) -> DecodingStrategy:
    """Greedy at temperature 0, a random draw otherwise."""
    return Greedy(sampling) if sampling.temperature == 0 else RandomDraw(sampling)
