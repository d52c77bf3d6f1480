"""How hard a query is for all models alike, made to mean what it says; what sets the models apart stays in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from routers.inputs import Floats
from routers.linear import Array
from routers.predictions import ONE

# How many spreads a query may lie from the others, and how near to 0 and 1 a forecast may come.
_FARTHEST = 3.0
_LEAST, _MOST = np.float32(0.005), np.float32(0.995)
_HIGHEST = 30.0


@dataclass(frozen=True, slots=True, eq=False)
class Hardness:
    """logit quality = logit forecast + lift + base + slope z + bend z², z = (mean forecast - middle) / spread.

    `middle` and `spread` are the mean and standard deviation of queries' mean forecasts where the forecaster learned;
    with `lift` its forecasts there are as high in the mean as models score. One term serves all models of a query, so
    their order stays; near 0 and 1 they come closer to each other.
    """

    middle: float
    spread: float
    lift: float
    base: float = 0.0
    slope: float = 0.0
    bend: float = 0.0

    def mended(self, told: Floats) -> Floats:
        """Forecasts [Q, M], within 0..1."""
        z = self.apart(told)
        raised = self.lift + (self.base + z * (self.slope + z * self.bend))
        # sigmoid(logit p + r) = p / (p + (1 - p) / exp r): neither logarithms nor a tangent of every pair
        odds: Floats = np.exp(-np.minimum(np.maximum(raised, -_HIGHEST), _HIGHEST)).astype(np.float32)
        likely = np.minimum(np.maximum(told, _LEAST), _MOST)
        mended: Floats = likely / (likely + (ONE - likely) * odds)
        return mended

    def apart(self, told: Floats) -> Floats:
        """z of each query [Q, 1]."""
        # as `mean`, in a third of the time
        z = (np.add.reduce(told, axis=1, keepdims=True) / told.shape[1] - self.middle) * (1 / self.spread)
        found: Floats = np.minimum(np.maximum(z, -_FARTHEST), _FARTHEST)
        return found

    def logits(self, told: Floats) -> Floats:
        """Of the forecasts, with `lift`, [Q, M]."""
        likely = np.minimum(np.maximum(told, _LEAST), _MOST)
        found: Floats = np.log(likely / (1 - likely)) + self.lift
        return found

    def arrays(self) -> dict[str, Array]:
        """For an artifact."""
        return {"hardness": np.array([getattr(self, name) for name in self.__slots__])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self | None:
        """The reverse of `arrays`; None where forecasts are to be taken as they are."""
        return cls(*arrays["hardness"].tolist()) if "hardness" in arrays else None
