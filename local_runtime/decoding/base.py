"""The seam of decoding strategies: a row of logits in, a token out. Knows no model and no text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.float32]


@dataclass(slots=True)
class History:
    """What a sequence has seen: prompt ids and, growing, generated ids."""

    prompt: Sequence[int]
    generated: list[int] = field(default_factory=list)


class DecodingStrategy(Protocol):
    """One instance per sequence: it may keep state (a random generator) of its own."""

    def choose(self, logits: Row, history: History) -> int:
        """The next token from one row of logits [vocab_size], which stays unchanged.

        BadLogits where the row holds no finite best value.
        """
