"""The seam of every embedder: texts in, unit vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt


class Embedder(Protocol):
    """A sentence embedder; synchronous, called from one worker thread at a time.

    `id` names model *and* backend (vectors of two ids are not interchangeable; forms of a model that differ only by
    their rounding may share one), `dimensions` the vector's length, `max_tokens` the window beyond which text is cut.
    """

    id: str
    dimensions: int
    max_tokens: int

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit-norm float32 vectors, shape [len(texts), dimensions]; the same text always gives the same vector."""

    def count_tokens(self, text: str) -> int:
        """Tokens of a text as the model sees it, before cutting."""
