"""Simulated signals, for asking how good a verifier must be before rounds pay; never a measured result."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from routers.cascade_value import HINTS
from routers.training.dataset import Floats


def simulated_verifier(score: Floats, auc: float, seed: int) -> Floats:
    """Hints [Q, M, HINTS] of a verifier that tells right from wrong answers of any model with this AUC (0.5 to 1).

    Two normal distributions of one width, as far apart as the AUC asks, told as the probability that a coin toss
    between right and wrong would leave; at 1 it tells the score itself. Independent of the query: real ones are not.
    """
    if not 0.5 <= auc <= 1:
        raise ValueError(f"auc = {auc}: a verifier's AUC is 0.5 to 1")
    hints = np.full((*score.shape, HINTS), np.nan, dtype=np.float32)
    if auc == 1:
        hints[..., 0] = score
        return hints
    apart = 2**0.5 * NormalDist().inv_cdf(auc)
    seen = apart * (score - 0.5) + np.random.default_rng(seed).normal(size=score.shape)
    hints[..., 0] = 1 / (1 + np.exp(-apart * seen))
    return hints
