"""What a learned router predicts for queries in rows and models in columns; a decision is made elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from routers.inputs import Floats

# For sums with rows of fifty: arrays of no dimension, since an operation with a number takes twice as long.
ZERO, ONE = np.zeros((), np.float32), np.ones((), np.float32)


@dataclass(frozen=True, slots=True)
class Predictions:
    """Arrays of shape [Q, M] unless said; quality in 0..1.

    `low` and `high` bound the expected quality of the pair (90 % interval). `usual` [M] and `usual_tokens` [M] are what
    the router knows of a model whatever is asked: the best fixed choice follows from them. `tokens` are median output
    tokens, `tokens_high` their 90th percentile; `mean_ratio` [M] (or [1] for all) is how many times the median a model
    writes in the mean: lengths are skewed, and what a call is expected to cost follows from the mean. `latency_ms` is
    NaN where the router knows nothing of it. `trust` [Q] in 0..1 says how near a query lies to what was learned from
    (0: the forecasts are the usual ones).
    """

    quality: Floats
    low: Floats
    high: Floats
    tokens: Floats
    tokens_high: Floats
    latency_ms: Floats
    usual: Floats
    usual_tokens: Floats
    trust: Floats
    mean_ratio: Floats = field(default_factory=lambda: np.ones(1, dtype=np.float32))

    @property
    def tokens_mean(self) -> Floats:
        """Expected output tokens [Q, M]."""
        return self.tokens * self.mean_ratio

    @property
    def usual_tokens_mean(self) -> Floats:
        """Expected output tokens whatever is asked [M]."""
        return self.usual_tokens * self.mean_ratio
