"""The seam between scheduler and model: segments of tokens in, logits out. Knows no torch."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive tokens of one sequence: a prompt chunk, one decode token, or a draft to verify.

    `pages` hold the sequence's keys and values, 16 positions each, in order (an array of C ints); `start` is the
    position of `tokens[0]`; positions before it must have been computed. `logits` is for how many of the last tokens
    the caller wants logits. `adapter` is the number of the adapter to compute with (None: the base model); all of a
    sequence's tokens have the same.
    """

    pages: array[int]
    start: int
    tokens: Sequence[int]
    logits: int = 0
    adapter: int | None = None


class LanguageModel(Protocol):
    """A model with its key-value store; called from one thread at a time.

    `invariant`: a sequence's rows are the same bit for bit whatever else a pass computes, and however it is cut.
    `shares`: sequences may begin with pages that another one filled.
    `page_count`: how many pages of keys and values there are.
    `layers`: those that are computed, in order; what has been computed with others must not be gone on with.
    """

    vocab_size: int
    invariant: bool
    shares: bool
    page_count: int
    layers: Sequence[int]

    def forward(self, segments: Sequence[Segment]) -> Logits:
        """Compute all segments in one pass and remember their keys and values.

        Float32 logits, shape [sum of segment.logits, vocab_size], in the order of the segments. A sequence's row
        depends on its own tokens only; mixing it with others changes at most the rounding of sums.
        """

    def use_threads(self, threads: int) -> None:
        """Compute with so many cores from now on; called in the thread that will call `forward`."""
