"""What a learned cascade expects of answers and of calls: features and two kinds of small networks, in numpy.

Training and serving compute the features here, from the same arrays. Knows no query text and no candidate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from routers.inputs import Floats

Mask = npt.NDArray[np.bool_]

# Hints of an answer beside its length, each 0..1: a verifier's, the agreement of samples, the tokens' mean probability.
HINTS = 3
PROJECTIONS = 8
CONTEXT = PROJECTIONS + 4  # and log tokens, code, tools, trust
ANSWER_FEATURES = 9 + 2 * HINTS
ACTION_FEATURES = 10
_EDGE = np.float32(0.01)
_LENGTH_CAP = 3.0
_DEAREST = np.float32(3)
_NEVER = np.float32(-np.inf)
_NORMAL_90, _LEAST_SPREAD = 1.2816, 0.1
_NONE, _ONE = np.float32(0), np.float32(1)


@dataclass(frozen=True, slots=True)
class States:
    """Requests under way in rows, models in columns: arrays of shape [B, M] unless said.

    `quality` is the base router's forecast, `price` the forecast cost of a call in units of score (cost x weight),
    `length` an answer's log tokens above forecast in spreads of that forecast, `hints` [B, M, HINTS]; both are NaN
    where not known. `context` [B, CONTEXT] is what is known of the query.
    """

    quality: Floats
    price: Floats
    length: Floats
    hints: Floats
    called: Mask
    open: Mask
    context: Floats


@dataclass(frozen=True, slots=True)
class Network:
    """One hidden layer of tanh units over a pair's features and its query's context."""

    weights: Floats  # [F, H]
    contextual: Floats  # [CONTEXT, H]
    bias: Floats  # [H]
    out: Floats  # [H]
    constant: Floats  # [1]

    def __call__(self, features: Floats, context: Floats) -> Floats:
        """Features [B, M, F] and context [B, CONTEXT] to [B, M]."""
        hidden = features @ self.weights
        hidden += (context @ self.contextual + self.bias)[:, None]
        value: Floats = np.tanh(hidden, out=hidden) @ self.out + self.constant[0]
        return value

    def arrays(self, name: str) -> dict[str, Floats]:
        """For an artifact; `network` reads them back."""
        return {f"{name}/{key}": getattr(self, key) for key in Network.__slots__}


def network(arrays: Mapping[str, npt.NDArray[Any]], name: str, features: int) -> Network:
    """Raises `ValueError` where an array is missing or of another shape."""
    try:
        made = Network(*(np.asarray(arrays[f"{name}/{key}"], np.float32) for key in Network.__slots__))
    except KeyError as error:
        raise ValueError(f"it lacks the array {error}") from error
    hidden = made.out.size
    shapes = ((features, hidden), (CONTEXT, hidden), (hidden,), (hidden,), (1,))
    if tuple(getattr(made, key).shape for key in Network.__slots__) != shapes:
        raise ValueError(f"its arrays '{name}/...' do not fit {features} features and {CONTEXT} of context")
    return made


def no_network(features: int) -> Network:
    """One that says 0."""
    shapes = ((features, 1), (CONTEXT, 1), (1,), (1,), (1,))
    return Network(*(np.zeros(shape, np.float32) for shape in shapes))


@dataclass(frozen=True, slots=True)
class CascadeValue:
    """`answers` tells how likely an answer is right, given all signals so far; `gains[k]` what call k+1 opens up.

    A call's value is the better of its own expected score and the best answer's in hand, less its price, plus a gain
    for choosing later with more knowledge; the gain counts by `trust[k]` (0: as if nothing could be learned from it).
    """

    answers: Network
    gains: tuple[Network, ...]
    trust: tuple[float, ...]

    def scores(self, states: States) -> Floats:
        """Expected score of every model's answer, given or still to be asked for; the forecast before any call."""
        if not states.called.any():
            return states.quality
        told = sigmoid(logit(states.quality) + self.answers(answer_features(states), states.context))
        return np.where(np.any(states.called, axis=1, keepdims=True), told, states.quality)

    def values(self, states: States, scores: Floats) -> Floats:
        """Expected worth of calling each model next; minus infinity where it is not open. Same rounds in all rows."""
        place = min(int(states.called[0].sum()), len(self.gains) - 1)
        best = best_in_hand(states, scores)
        worth = np.maximum(scores, best[:, None]) - states.price
        if self.trust[place]:
            gains = self.gains[place](action_features(states, scores, best), states.context)
            worth = worth + np.float32(self.trust[place]) * gains
        return np.where(states.open, worth, _NEVER)


def logit(share: Floats) -> Floats:
    """Log odds, kept within those of 1 and 99 %."""
    kept = np.minimum(np.maximum(share, _EDGE), _ONE - _EDGE)
    odds: Floats = np.log(kept / (_ONE - kept))
    return odds


def sigmoid(odds: Floats) -> Floats:
    """The inverse of `logit`."""
    share: Floats = _ONE / (_ONE + np.exp(-odds))
    return share


def best_in_hand(states: States, scores: Floats) -> Floats:
    """The best answer's expected score so far, 0 without answers; shape [B]."""
    best: Floats = np.where(states.called, scores, _NONE).max(axis=1)
    return best


def answer_features(states: States) -> Floats:
    """What an answer's rightness is read from; shape [B, M, ANSWER_FEATURES].

    The length of its own answer and the mean of the others', which tells of the question; the forecast, and how the
    forecasts of the pool and of the called models lie.
    """
    called = states.called
    odds = logit(states.quality)
    length, known, total, count = _lengths(states)
    elsewhere = (total - length) / np.maximum(count - known, _ONE)
    calls = called.sum(axis=1, keepdims=True, dtype=np.float32)
    asked = np.where(called, odds, _NONE).sum(axis=1, keepdims=True) / np.maximum(calls, _ONE)
    made = np.empty((*odds.shape, ANSWER_FEATURES), dtype=np.float32)
    made[..., 0] = odds / 4
    made[..., 1] = odds.mean(axis=1, keepdims=True) / 4
    made[..., 2] = (odds - asked) / 4 * (calls > 0)
    made[..., 3] = length
    made[..., 4] = length * length / 3
    made[..., 5] = np.maximum(length, _NONE)
    made[..., 6] = known
    made[..., 7] = elsewhere
    made[..., 8] = np.maximum(elsewhere, _NONE)
    told = np.isfinite(states.hints)
    made[..., 9 : 9 + HINTS] = np.where(told, states.hints - np.float32(0.5), _NONE)
    made[..., 9 + HINTS :] = told
    return made


def action_features(states: States, scores: Floats, best: Floats) -> Floats:
    """What a call's gain is read from; shape [B, M, ACTION_FEATURES].

    Its own score and price against the answer in hand, and the best that could follow it.
    """
    price = np.minimum(states.price, _DEAREST)
    worth = np.where(states.open, scores - price, -_ONE)
    follow, follow_price = _best_other(worth, price)
    _, _, total, count = _lengths(states)
    in_hand = best[:, None]
    made = np.empty((*scores.shape, ACTION_FEATURES), dtype=np.float32)
    made[..., 0] = scores
    made[..., 1] = in_hand
    made[..., 2] = scores - in_hand
    made[..., 3] = price
    made[..., 4] = np.sqrt(price)
    made[..., 5] = worth - in_hand
    made[..., 6] = follow - scores
    made[..., 7] = follow - in_hand
    made[..., 8] = follow_price
    made[..., 9] = total / np.maximum(count, _ONE)
    np.maximum(made[..., 5:8], -_ONE, out=made[..., 5:8])
    return made


def _lengths(states: States) -> tuple[Floats, Floats, Floats, Floats]:
    """Signals of length, capped, 0 where there is none; where there is one [B, M]; their sums and counts [B, 1]."""
    known = np.isfinite(states.length).astype(np.float32)
    length = np.where(known, np.minimum(np.maximum(states.length, -_LENGTH_CAP), _LENGTH_CAP), _NONE).astype(np.float32)
    return length, known, length.sum(axis=1, keepdims=True), known.sum(axis=1, keepdims=True)


def _best_other(worth: Floats, price: Floats) -> tuple[Floats, Floats]:
    """For each model the best worth among the others, and that other's price; -1 and 0 where there is no other."""
    if worth.shape[1] == 1:
        return np.full_like(worth, -1), np.zeros_like(worth)
    rows = np.arange(len(worth))
    first = worth.argmax(axis=1)
    rest = worth.copy()
    rest[rows, first] = -np.inf
    second = rest.argmax(axis=1)
    follow, follow_price = np.empty_like(worth), np.empty_like(price)
    follow[:], follow_price[:] = worth[rows, first, None], price[rows, first, None]
    follow[rows, first], follow_price[rows, first] = worth[rows, second], price[rows, second]
    return follow, follow_price


def length_signal(tokens: Floats, forecast: Floats, forecast_high: Floats) -> Floats:
    """How much longer than forecast an answer is: difference of logarithms in units of the forecast's spread.

    All in tokens, any one shape; `forecast` is the median, `forecast_high` the 90th percentile. NaN stays NaN.
    """
    median = np.maximum(forecast, 1)
    spread = np.log(np.maximum(forecast_high, median) / median) / _NORMAL_90
    signal: Floats = (np.log(np.maximum(tokens, 1) / median) / np.maximum(spread, _LEAST_SPREAD)).astype(np.float32)
    return signal


def length_signal_of(tokens: int, forecast: int, forecast_high: int) -> float:
    """The same of one answer."""
    median = max(forecast, 1)
    spread = math.log(max(forecast_high, median) / median) / _NORMAL_90
    return math.log(max(tokens, 1) / median) / max(spread, _LEAST_SPREAD)
