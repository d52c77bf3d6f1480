"""Paired bootstrap over questions: how sure a difference between two routers is; knows no metric by itself.

A question's rows are drawn together, as often in every router and in every split that it is in, so that the noise of
the questions cancels in differences and repeated splits of the same data do not pass for more data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from routers.training.choices import Taken
from routers.training.dataset import Doubles, Floats, Indices

RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference with its 95 % interval; `corrected` is the mean less the bias that resampling shows."""

    mean: float
    low: float
    high: float
    corrected: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def resample(groups: Sequence[Indices], seed: int, resamples: int = RESAMPLES) -> list[Floats]:
    """Weights of the rows of several splits [resamples, Q] each, summing to 1; groups drawn with replacement."""
    names, inverse = np.unique(np.concatenate(groups), return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    ends = np.cumsum([len(one) for one in groups])[:-1]
    weights = [drawn[:, rows].astype(np.float32) for rows in np.split(inverse, ends)]
    return [one / np.maximum(one.sum(axis=1, keepdims=True), 1e-9) for one in weights]


def curves(outcomes: Taken, weights: Floats | None = None) -> tuple[Doubles, Doubles]:
    """Mean cost and score at each weight of cost [R, L + 2] under each resample; of the rows as they are without."""
    if weights is None:
        return outcomes.cost.mean(axis=1)[None], outcomes.score.mean(axis=1)[None]
    # Costs are tiny: scaled, single precision keeps seven digits of them.
    scale = float(outcomes.cost.max()) or 1.0
    cost = weights @ (outcomes.cost / scale).astype(np.float32).T
    return cost.astype(np.float64) * scale, (weights @ outcomes.score.astype(np.float32).T).astype(np.float64)


def differences(
    ours: Sequence[Mapping[str, Doubles]], theirs: Sequence[Mapping[str, Doubles]], means: Mapping[str, float]
) -> dict[str, Difference]:
    """Intervals of the mean over splits of ours - theirs, from resampled metrics [R] of each split.

    `means` are the differences on the data as it is. Intervals are basic ones, the drawn quantiles mirrored at them: a
    hull over noisy points lies above the hull over the true ones, and a hull over resampled points above it once more
    by as much. Mirroring takes that out of the measured mean too; quantiles centred there would leave it in.
    """
    found = {}
    for name, mean in means.items():
        drawn = np.mean([one[name] - other[name] for one, other in zip(ours, theirs, strict=True)], axis=0)
        high, low = 2 * mean - np.quantile(drawn, (0.025, 0.975))
        found[name] = Difference(mean, float(low), float(high), 2 * mean - float(drawn.mean()))
    return found
