"""How long answers will be: each model's usual length, stretched by how long this query's answers are for all models.

log median tokens of model m at query x = usual[m] + slope[m] * length(x), length(x) a ridge on embedding and facts that
all models share; the 90th percentile lies `high[m]` above, the conformal quantile of residuals of unseen queries. The
mean lies `mean[m]` above: a smearing ratio (Duan 1983), weighted by forecast tokens so that totals are met.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from routers.inputs import Floats, Inputs
from routers.linear import Design, linear, ridge

Doubles = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

UPPER_SHARE = 0.9
PENALTIES = (1.0, 10.0, 100.0)
_OWN = ("usual_log_tokens", "tokens_slope", "tokens_high")
_MEAN = "tokens_mean"
ARRAYS = (*_OWN, "length_weights", "length_fact_weights", "length_bias")
# Waiting takes about as long as writing so many tokens does (`routers.prior.latency_factor`).
WAIT_TOKENS = np.array(200, dtype=np.float32)
_UNKNOWN_TOKENS = 200.0
_UNKNOWN_HIGH = float(np.log(3.0))
# Residuals of a model before its own quantile is believed over that of all models; for its mean these weigh as many.
_OWN_QUANTILE = 40
_SLOPE_STRENGTH = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class TokenForecasts:
    """Natural logarithms of output tokens, for M models; `length` are the arrays of the shared linear map."""

    usual: Doubles
    slope: Doubles
    high: Doubles
    length: Mapping[str, Array]
    mean: Doubles

    @classmethod
    def fit(cls, inputs: Inputs, log_tokens: Array, unseen: Inputs, unseen_log_tokens: Array) -> TokenForecasts:
        """From logarithms of output tokens [Q, M] (NaN: not observed); penalty and quantile from the unseen queries."""
        tried = [_fitted(inputs, log_tokens, penalty) for penalty in PENALTIES]
        best = min(tried, key=lambda one: _error(one.medians(unseen), unseen_log_tokens))
        return best.calibrated(best.deviations(unseen), unseen_log_tokens)

    def medians(self, inputs: Inputs) -> Floats:
        """Logarithm of the median, shape [Q, M]."""
        return np.asarray(self.usual + self.deviations(inputs), dtype=np.float32)

    def deviations(self, inputs: Inputs) -> Floats:
        """How far the logarithm lies from each model's usual, shape [Q, M]."""
        return linear(self.length, inputs, "length_") * self.slope.astype(np.float32)

    def calibrated(self, deviations: Array, log_tokens: Array) -> TokenForecasts:
        """The same with medians, means and 90th percentiles that hold on unseen queries, where these deviations [Q, M]
        from the usual lengths were forecast."""
        residuals = np.asarray(log_tokens, dtype=np.float64) - (self.usual + deviations)
        shared = residuals[~np.isnan(residuals)]
        middle, upper = np.zeros(len(self.usual)), np.full(len(self.usual), _upper(shared))
        for column, found in enumerate(residuals.T):
            own = found[~np.isnan(found)]
            if len(own) >= _OWN_QUANTILE:
                middle[column] = np.median(own)
                upper[column] = _upper(own)
        mean = mean_ratios(self.usual + middle + deviations, log_tokens)
        return replace(self, usual=self.usual + middle, high=np.maximum(upper - middle, 0.0), mean=mean)

    def arrays(self) -> dict[str, Array]:
        """For an artifact."""
        own = dict(zip((*_OWN, _MEAN), (self.usual, self.slope, self.high, self.mean), strict=True))
        return {name: np.asarray(one, dtype=np.float32) for name, one in {**own, **self.length}.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> TokenForecasts:
        """The reverse of `arrays`; where no mean was kept it is as the median."""
        length = {name: arrays[name] for name in ARRAYS if name.startswith("length_")}
        usual, slope, high = (arrays[name].astype(np.float64) for name in _OWN)
        return cls(usual, slope, high, length, arrays.get(_MEAN, np.zeros(len(usual))).astype(np.float64))


def _fitted(inputs: Inputs, log_tokens: Array, penalty: float) -> TokenForecasts:
    """Usual lengths, then the shared length of each query, then how far each model follows it."""
    seen = ~np.isnan(log_tokens)
    count = seen.sum(axis=0)
    overall = float(log_tokens[seen].mean()) if seen.any() else float(np.log(_UNKNOWN_TOKENS))
    usual = (np.where(seen, log_tokens, 0.0).sum(axis=0, dtype=np.float64) + overall) / (count + 1)
    design = Design.of(inputs)
    columns = design.matrix(inputs)
    apart = np.where(seen, log_tokens - usual, 0.0).astype(np.float64)
    per_query = seen.sum(axis=1)
    length = np.where(per_query > 0, apart.sum(axis=1) / np.maximum(per_query, 1), np.nan)
    weights, bias = ridge(columns, length[:, None], penalty)
    told = columns @ weights + bias
    products, squares = np.where(seen, apart * told, 0.0).sum(axis=0), np.where(seen, told**2, 0.0).sum(axis=0)
    strength = _SLOPE_STRENGTH * float(np.mean(told**2)) + 1e-9
    slope = (products + strength) / (squares + strength)
    high = np.full(len(usual), _UNKNOWN_HIGH)
    return TokenForecasts(usual, slope, high, design.folded(weights, bias, "length_"), np.zeros(len(usual)))


def _error(told: Floats, log_tokens: Array) -> float:
    apart = np.abs(log_tokens - told)
    return float(np.nanmean(apart)) if np.isfinite(apart).any() else 0.0


def lift(usual_log_tokens: Doubles) -> np.float32:
    """What is added to logarithms of usual lengths [C] where a query is like none that was learned from.

    Models that were only ever seen to answer with one letter would look free there, and the dearest would be taken: in
    the median over models, answers are not expected to be shorter than an ordinary one.
    """
    short = np.log(_UNKNOWN_TOKENS) - np.median(usual_log_tokens) if len(usual_log_tokens) else 0.0
    return np.float32(max(short, 0.0))


def mean_ratios(medians: Array, log_tokens: Array) -> Doubles:
    """Logarithm [M] of tokens written over forecast medians, both summed; models with few are drawn to all together."""
    seen = ~np.isnan(log_tokens)
    written = np.exp(np.where(seen, log_tokens, -np.inf).astype(np.float64)).sum(axis=0)
    foretold = np.exp(np.where(seen, medians, -np.inf).astype(np.float64)).sum(axis=0)
    if not seen.any():
        return np.zeros(len(foretold))
    shared = written.sum() / foretold.sum()
    drawn = _OWN_QUANTILE * foretold / np.maximum(seen.sum(axis=0), 1)
    blended = (written + shared * drawn) / np.where(seen.any(axis=0), foretold + drawn, 1.0)
    return np.asarray(np.log(np.where(seen.any(axis=0), blended, shared)), dtype=np.float64)


def _upper(residuals: Doubles) -> float:
    """The smallest residual that, by split-conformal counting, bounds a new one with the wanted share."""
    if len(residuals) == 0:
        return _UNKNOWN_HIGH
    place = int(np.ceil(UPPER_SHARE * (len(residuals) + 1))) - 1
    return float(np.sort(residuals)[min(place, len(residuals) - 1)])
