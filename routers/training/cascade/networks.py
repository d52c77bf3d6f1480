"""Small networks on top of a known first guess, stopped early by unseen queries.

In plain numpy: they are so small that a framework's overhead would be most of the training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from routers.cascade_value import CONTEXT, Network, sigmoid
from routers.training.dataset import Floats, Indices

# Small data are learned from in small batches, so that there are steps enough.
_BATCH, _STEPS = (64, 1024), 200
_HOLD_BACK = 0.25
_PATIENCE = 5
# AdamW (Loshchilov and Hutter 2019): rate, decay of both moments, and what keeps the divisor from 0.
_RATE, _FIRST, _SECOND, _TINY = 3e-3, 0.9, 0.999, 1e-8


@dataclass(frozen=True, slots=True)
class Task:
    """Rows to learn [N, F + CONTEXT]; `guess` [N] (log odds for "bce", a value for "mse") is corrected to `target` [N].

    `group` says which query a row is of, so that a query is learned from or held back, never both.
    """

    features: Floats
    guess: Floats
    target: Floats
    group: Indices
    loss: Literal["bce", "mse"]

    def error(self, rows: Indices, said: Floats) -> Floats:
        """What the loss's slope by the output is, but for a factor that is the same everywhere; shape [rows]."""
        told = self.guess[rows] + said
        return (sigmoid(told) if self.loss == "bce" else told) - self.target[rows]

    def mean_loss(self, rows: Indices, said: Floats) -> float:
        """Over the rows; 0 without any."""
        if not len(rows):
            return 0.0
        told, target = self.guess[rows] + said, self.target[rows]
        lost = np.logaddexp(0, told) - target * told if self.loss == "bce" else (told - target) ** 2
        return float(lost.mean(dtype=np.float64))


def train_network(task: Task, *, hidden: int = 24, epochs: int = 30, decay: float = 1e-3, seed: int = 0) -> Network:
    """The correction that is best on held-back queries; all zeros where none is better than the first guess."""
    rng = np.random.default_rng(seed)
    held = rng.random(int(task.group.max()) + 1)[task.group] < _HOLD_BACK
    learned, kept = np.flatnonzero(~held), np.flatnonzero(held)
    net = _Net.drawn(task.features.shape[1], hidden, rng)
    batch = min(max(len(learned) // _STEPS, _BATCH[0]), _BATCH[1])
    best, state, waited = task.mean_loss(kept, net.say(task.features[kept])[0]), net.copied(), 0
    for _ in range(epochs):
        order = rng.permutation(learned)
        for at in range(0, len(order), batch):
            net.step(task, order[at : at + batch], decay)
        now = task.mean_loss(kept, net.say(task.features[kept])[0])
        waited = 0 if now < best else waited + 1
        if now < best:
            best, state = now, net.copied()
        if waited >= _PATIENCE:
            break
    return _folded(_shrunk(state, task, kept), task.features)


def _shrunk(parameters: list[Floats], task: Task, kept: Indices) -> list[Floats]:
    """What it says, times the share of it that surely holds on held-back queries: their slope less one standard error.

    Values are learned from few queries whose outcomes are noise for the most part; log odds are left as they are.
    """
    if task.loss == "bce":
        return parameters
    said = _Net(parameters).say(task.features[kept])[0]
    _, query = np.unique(task.group[kept], return_inverse=True)
    along = np.bincount(query, said * (task.target[kept] - task.guess[kept]))
    size = np.bincount(query, said * said)
    total = float(size.sum()) or 1.0
    slope = float(along.sum()) / total
    error = float(((along - slope * size) ** 2).sum()) ** 0.5 / total
    share = np.float32(min(max(slope - error, 0.0), 1.0))
    weights, bias, out, constant = parameters
    return [weights, bias, out * share, constant * share]


class _Net:
    """Parameters (weights, bias, out, constant) with the moments of their slopes."""

    def __init__(self, parameters: list[Floats]) -> None:
        self.parameters = parameters
        self._first = [np.zeros_like(one) for one in parameters]
        self._second = [np.zeros_like(one) for one in parameters]
        self._steps = 0

    @classmethod
    def drawn(cls, features: int, hidden: int, rng: np.random.Generator) -> _Net:
        """One that says 0 at first."""
        bound = features**-0.5
        weights, bias = rng.uniform(-bound, bound, (features, hidden)), rng.uniform(-bound, bound, hidden)
        return cls([one.astype(np.float32) for one in (weights, bias, np.zeros(hidden), np.zeros(1))])

    def copied(self) -> list[Floats]:
        return [one.copy() for one in self.parameters]

    def say(self, features: Floats) -> tuple[Floats, Floats]:
        """What it says of rows [N, F], [N], and the hidden units [N, H]."""
        weights, bias, out, constant = self.parameters
        units: Floats = np.tanh(features @ weights + bias)
        return units @ out + constant[0], units

    def step(self, task: Task, rows: Indices, decay: float) -> None:
        """One step of AdamW on some rows."""
        features = task.features[rows]
        said, units = self.say(features)
        error = task.error(rows, said) / np.float32(len(rows))
        inner = error[:, None] * self.parameters[2] * (1 - units * units)
        slopes = (features.T @ inner, inner.sum(axis=0), units.T @ error, error.sum(keepdims=True))
        self._steps += 1
        size = _RATE * (1 - _SECOND**self._steps) ** 0.5 / (1 - _FIRST**self._steps)
        for place, slope in enumerate(slopes):
            self._first[place] += (1 - _FIRST) * (slope - self._first[place])
            self._second[place] += (1 - _SECOND) * (slope * slope - self._second[place])
            move = size * self._first[place] / (np.sqrt(self._second[place]) + _TINY)
            self.parameters[place] = (self.parameters[place] * (1 - _RATE * decay) - move).astype(np.float32)


def _folded(parameters: list[Floats], features: Floats) -> Network:
    """A feature that never varied must not speak once it does: its weights are as they were drawn."""
    weights, bias, out, constant = parameters
    still = features.max(axis=0) == features.min(axis=0)
    moved = (bias + features[0] @ (weights * still[:, None])).astype(np.float32)
    kept = weights * ~still[:, None]
    return Network(kept[:-CONTEXT], kept[-CONTEXT:], moved, out, constant)
