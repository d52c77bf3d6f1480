"""A small net of two hidden layers that tells one probability, fitted and kept as plain arrays.

It sees numbers only, and needs nothing but numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class NetPlan:
    """How to fit: sizes of the hidden layers, share of the first one left out at a time, and how long."""

    first: int = 48
    second: int = 24
    dropout: float = 0.2
    epochs: int = 8
    batch: int = 256
    rate: float = 0.004
    decay: float = 0.05
    seed: int = 0


def fit_net(rows: Floats, same: npt.NDArray[np.bool_], plan: NetPlan) -> list[Floats]:
    """Weights and biases, layer by layer, of rows whose columns are on one scale."""
    rng = np.random.default_rng(plan.seed)
    sizes = (rows.shape[1], plan.first, plan.second, 1)
    layers: list[Floats] = []
    for inner, outer in pairwise(sizes):
        bound = inner**-0.5
        layers += [_uniform(rng, bound, (inner, outer)), _uniform(rng, bound, (outer,))]
    wanted = same.astype(np.float32)
    adam = _Adam(layers, plan.decay)
    steps = plan.epochs * -(-len(rows) // plan.batch)
    step = 0
    for _ in range(plan.epochs):
        order = rng.permutation(len(rows))
        for start in range(0, len(rows), plan.batch):
            some = order[start : start + plan.batch]
            kept = (rng.random((len(some), plan.first), dtype=np.float32) >= plan.dropout) / (1 - plan.dropout)
            slopes = _slopes(layers, rows[some], wanted[some], kept.astype(np.float32))
            adam.step(slopes, plan.rate * _warmth(step / steps))
            step += 1
    return layers


def _uniform(rng: np.random.Generator, bound: float, shape: tuple[int, ...]) -> Floats:
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def _warmth(share: float) -> float:
    """Up during the first three tenths of all steps, then down to nothing, along a cosine."""
    turn = share / 0.3 if share < 0.3 else (1 - share) / 0.7
    height = (1 - np.cos(np.pi * turn)) / 2
    return float(0.04 + 0.96 * height if share < 0.3 else height)


def _slopes(layers: list[Floats], rows: Floats, wanted: Floats, kept: Floats) -> list[Floats]:
    """The slope of the mean log loss along each array."""
    first, first_bias, second, second_bias, last, last_bias = layers
    one = np.maximum(rows @ first + first_bias, 0) * kept
    two = np.maximum(one @ second + second_bias, 0)
    told = 1 / (1 + np.exp(-np.clip((two @ last + last_bias)[:, 0], -30, 30)))
    off = ((told - wanted) / len(rows))[:, None]
    off_two = (off @ last.T) * (two > 0)
    off_one = (off_two @ second.T) * kept * (one > 0)
    pairs = ((rows, off_one), (one, off_two), (two, off))
    return [slope for inner, outer in pairs for slope in (inner.T @ outer, outer.sum(axis=0))]


class _Adam:
    """Adam with decay of the weights apart from their slopes."""

    def __init__(self, layers: list[Floats], decay: float) -> None:
        self._layers = layers
        self._decay = decay
        self._mean = [np.zeros_like(layer) for layer in layers]
        self._square = [np.zeros_like(layer) for layer in layers]
        self._steps = 0

    def step(self, slopes: list[Floats], rate: float) -> None:
        self._steps += 1
        early, late = 1 - 0.9**self._steps, 1 - 0.999**self._steps
        for place, slope in enumerate(slopes):
            self._mean[place] += 0.1 * (slope - self._mean[place])
            self._square[place] += 0.001 * (slope * slope - self._square[place])
            self._layers[place] *= 1 - rate * self._decay
            self._layers[place] -= rate * (self._mean[place] / early) / (np.sqrt(self._square[place] / late) + 1e-8)
