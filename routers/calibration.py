"""Makes a router's forecasts mean what they say: quality maps, intervals, token quantiles, trust; numpy, serving side.

Everything here is a table that `routers.training.calibrate` has fitted; models are known by id, others share a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from routers.artifact import Array, ArtifactError
from routers.gate import Gate
from routers.inputs import Floats
from routers.predictions import Predictions

__all__ = ["LEVELS", "Calibration", "Gate", "QualityMap", "TokenBounds"]

# Levels of the quantiles that `TokenBounds` knows.
LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
# Of an interval that holds with 90 %.
LEVEL = 0.9

Numbers = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class QualityMap:
    """Recalibrated quality and the interval of the expected quality, by model and forecast.

    `values` and `margins` [len(models) + 1, K] belong to forecasts of 0, 1/(K-1), ..., 1 and are joined by lines; the
    last row is for every other model. `values` never fall along a row. `margins` are half the width of the 90 %
    interval in which the mean score of queries with this forecast lies.
    """

    models: tuple[str, ...]
    values: Floats
    margins: Floats

    def apply(self, quality: Numbers, models: Sequence[str]) -> Floats:
        """Forecasts [Q, M] of these models, recalibrated."""
        return self._read(self.values, quality, models)

    def bounds(self, quality: Numbers, models: Sequence[str]) -> tuple[Floats, Floats, Floats]:
        """Recalibrated quality, low and high [Q, M], all within 0..1, for forecasts [Q, M] *before* recalibration."""
        told = self.apply(quality, models)
        margin = self._read(self.margins, quality, models)
        return told, np.maximum(told - margin, 0), np.minimum(told + margin, 1)

    def arrays(self) -> dict[str, Array]:
        """For an artifact: names that begin with `quality_map.`."""
        return {
            "quality_map.models": _named(self.models),
            "quality_map.values": self.values.astype(np.float32),
            "quality_map.margins": self.margins.astype(np.float32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """From what `arrays` gave; `ArtifactError` names what is missing or does not fit."""
        models, values, margins = _read(arrays, "quality_map", ("models", "values", "margins"))
        if values.ndim != 2 or values.shape[1] < 2 or values.shape != margins.shape or len(values) != len(models) + 1:
            raise ArtifactError("quality_map's arrays do not fit one another: train it anew")
        return cls(tuple(map(str, models)), values.astype(np.float32), margins.astype(np.float32))

    def _read(self, table: Floats, quality: Numbers, models: Sequence[str]) -> Floats:
        rows, last = _rows(self.models, models), table.shape[1] - 1
        place = np.minimum(np.maximum(quality, 0), 1) * last
        left = np.minimum(place.astype(np.intp), last - 1)
        start = table[rows, left]
        found: Floats = start + (place - left).astype(np.float32) * (table[rows, left + 1] - start)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class TokenBounds:
    """Quantiles of output tokens around a forecast: tokens x exp(offset), by split conformal prediction on log tokens.

    `offsets` [len(models) + 1, len(LEVELS)]; the last row is for every other model.
    """

    models: tuple[str, ...]
    offsets: Floats

    def quantile(self, tokens: Numbers, models: Sequence[str], level: float = LEVEL) -> Floats:
        """The quantile of each pair's output tokens [Q, M] for forecasts [Q, M]; `ValueError` for an unknown level."""
        if level not in LEVELS:
            raise ValueError(f"level {level} is none of {', '.join(map(str, LEVELS))}")
        factors = np.exp(self.offsets[_rows(self.models, models), LEVELS.index(level)])
        found: Floats = np.maximum(tokens * factors, 1).astype(np.float32)
        return found

    def arrays(self) -> dict[str, Array]:
        """For an artifact: names that begin with `token_bounds.`."""
        return {
            "token_bounds.models": _named(self.models),
            "token_bounds.offsets": self.offsets.astype(np.float32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """From what `arrays` gave; `ArtifactError` names what is missing or does not fit."""
        models, offsets = _read(arrays, "token_bounds", ("models", "offsets"))
        if offsets.shape != (len(models) + 1, len(LEVELS)):
            raise ArtifactError("token_bounds' arrays do not fit one another: train it anew")
        return cls(tuple(map(str, models)), offsets.astype(np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """All of it over one router's forecasts. `strange` is half the 90 % interval of a model's usual quality on queries
    unlike all that was learned from; without a gate every query is trusted."""

    quality: QualityMap
    tokens: TokenBounds
    gate: Gate | None = None
    strange: float = 0.3

    def apply(self, told: Predictions, embeddings: Numbers, models: Sequence[str]) -> Predictions:
        """Forecasts recalibrated, with intervals, and drawn to the usual ones as trust falls; pure.

        `embeddings` are [Q, D], `models` the ids of the columns. Trust that `told` carries already is kept where lower.
        """
        trust = told.trust if self.gate is None else np.minimum(told.trust, self.gate.trust(embeddings))
        share = trust[:, None]
        quality, low, high = self.quality.bounds(told.quality, models)
        middle = told.usual + share * (quality - told.usual)
        below = share * (quality - low) + (1 - share) * self.strange
        above = share * (high - quality) + (1 - share) * self.strange
        usual = np.maximum(told.usual_tokens, 1)
        tokens = usual * (np.maximum(told.tokens, 1) / usual) ** share
        return replace(
            told,
            quality=middle,
            low=np.maximum(middle - below, 0),
            high=np.minimum(middle + above, 1),
            tokens=self.tokens.quantile(tokens, models, 0.5),
            tokens_high=self.tokens.quantile(tokens, models),
            trust=trust,
        )

    def arrays(self) -> dict[str, Array]:
        """For an artifact; `from_arrays` of the same names gives an equal one."""
        gate = {} if self.gate is None else self.gate.arrays()
        strange = np.array(self.strange, dtype=np.float64)
        return {**self.quality.arrays(), **self.tokens.arrays(), **gate, "calibration.strange": strange}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """From what `arrays` gave; `ArtifactError` names what is missing or does not fit."""
        (strange,) = _read(arrays, "calibration", ("strange",))
        gate = Gate.from_arrays(arrays) if any(name.startswith("gate.") for name in arrays) else None
        return cls(QualityMap.from_arrays(arrays), TokenBounds.from_arrays(arrays), gate, float(strange))


def _rows(known: tuple[str, ...], models: Sequence[str]) -> npt.NDArray[np.intp]:
    """The row of each model; the last one for those that are not known."""
    if tuple(models) == known:
        return np.arange(len(known))
    places = {model: place for place, model in enumerate(known)}
    return np.array([places.get(model, len(known)) for model in models], dtype=np.intp)


def _named(models: tuple[str, ...]) -> Array:
    return np.array(models, dtype=np.str_)


def _read(arrays: Mapping[str, Any], group: str, names: Sequence[str]) -> list[Array]:
    missing = [f"{group}.{name}" for name in names if f"{group}.{name}" not in arrays]
    if missing:
        raise ArtifactError(f"the artifact lacks the arrays {', '.join(missing)}: train it anew")
    return [np.asarray(arrays[f"{group}.{name}"]) for name in names]
