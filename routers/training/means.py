"""Mean scores of models that were not all asked the same questions."""

from __future__ import annotations

import numpy as np

from routers.training.dataset import Doubles

# An effect of a row counts this much less than its observations.
ROW_SHRINKAGE = 0.25
_TWO_WAY_ROUNDS = 60


def fill(values: Doubles) -> tuple[Doubles, Doubles]:
    """Means of columns, and what is left of each value, 0 where there is none.

    Where columns were observed on different rows the means are two-way: of row and column effects that add up, the
    former drawn to 0, so that whoever was asked the hard questions is not taken for the weaker.
    """
    seen = ~np.isnan(values)
    known = np.where(seen, values, 0.0)
    count, width = np.maximum(seen.sum(axis=0), 1), seen.sum(axis=1) + ROW_SHRINKAGE
    mean, row = known.sum(axis=0) / count, np.zeros(len(values))
    for _ in range(_TWO_WAY_ROUNDS if not seen.all() else 0):
        row = np.where(seen, known - mean, 0.0).sum(axis=1) / width
        row -= row.mean()
        mean = np.where(seen, known - row[:, None], 0.0).sum(axis=0) / count
    return mean, np.where(seen, values - mean, 0.0)
