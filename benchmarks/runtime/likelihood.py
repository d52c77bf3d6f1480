"""How likely a model finds a text: windows, losses, perplexity. Knows no model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def windows(tokens: Sequence[int], size: int) -> list[list[int]]:
    """Consecutive windows of `size` tokens; what is left at the end is dropped."""
    return [list(tokens[start : start + size]) for start in range(0, len(tokens) - size + 1, size)]


def loss(logits: npt.NDArray[np.float32], following: Sequence[int]) -> float:
    """Sum of -ln p of the tokens that follow, given logits [tokens, vocabulary]; computed in float64."""
    rows = np.asarray(logits, dtype=np.float64)
    top = rows.max(axis=1)
    whole = top + np.log(np.exp(rows - top[:, None]).sum(axis=1))
    return float((whole - rows[np.arange(len(rows)), list(following)]).sum())


def perplexity(losses: Sequence[float], window: int) -> float:
    """exp of the mean loss, where each window of `window` tokens was scored on all but its first."""
    return math.exp(sum(losses) / (len(losses) * (window - 1)))
