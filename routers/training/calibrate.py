"""Makes forecasts mean what they say, by what was forecast for rows that the forecaster had not learned from.

All arrays are [Q, M] unless said; NaN in `score` is *not observed*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from routers.hardness import Hardness
from routers.linear import sigmoid
from routers.training.dataset import Doubles, Indices

Numbers = npt.NDArray[np.floating]

# Of an interval that holds with 90 %.
LEVEL = 0.9
# Queries of one model whose forecasts are neighbours, and whose mean score is one observation for intervals.
CELL = 40
_NORMAL_90 = 1.645
_FEWEST_CELLS = 20
# Where there are fewer: cells of so many queries, of which there must be so many.
_SMALL_CELL, _FEWEST_SMALL_CELLS = 15, 4
# Where there is too little to estimate an interval from, half its width.
_UNKNOWN_MARGIN = 0.25
_LEAST_WIDTH = 0.01
# Added to the spread of mean forecasts: less than this tells queries hardly apart, and is not to be stretched.
_LEAST_SPREAD = 0.01
# Squared weights cost half as much as so many queries' cross-entropy.
_STRENGTH = 2.0
_ROUNDS = 200
_ENOUGH = 1e-4
_LIFTS = 8
_FLAT = 0.02


def own_hardness(told: Numbers, usual: Numbers) -> Hardness:
    """What a forecaster says of the queries that it learned from [Q, M], whose usual scores are `usual` [M]."""
    common = told.mean(axis=1, dtype=np.float64)
    flat = Hardness(float(common.mean()), float(common.std()) + _LEAST_SPREAD, 0.0)
    logits, lift, wanted = flat.logits(told), 0.0, float(np.mean(usual))
    for _ in range(_LIFTS):
        here = sigmoid(logits + lift)
        lift += (wanted - float(here.mean())) / max(float((here * (1 - here)).mean()), _FLAT)
    return replace(flat, lift=lift)


def hardness_weights(own: Sequence[tuple[Hardness, Indices]], told: Numbers, score: Numbers) -> dict[str, float]:
    """`base`, `slope` and `bend` of least cross-entropy, each part of the rows told by a forecaster of its own.

    A query counts once however many models it was put to, since these are right and wrong together. Cross-entropy is
    bounded from above by one quadratic (Böhning 1992), so every step goes down.
    """
    logits, apart = np.empty(told.shape), np.empty((len(told), 1))
    for one, rows in own:
        logits[rows], apart[rows] = one.logits(told[rows]), one.apart(told[rows])
    seen = ~np.isnan(score)
    columns, wanted = apart ** np.arange(3), np.where(seen, score, 0.0)
    share = seen / np.maximum(seen.sum(axis=1, keepdims=True), 1)
    bound = np.linalg.inv(0.25 * columns.T @ columns + _STRENGTH * np.eye(3))
    weights = np.zeros(3)
    for _ in range(_ROUNDS):
        off = ((sigmoid(logits + (columns @ weights)[:, None]) - wanted) * share).sum(axis=1)
        step = bound @ (columns.T @ off + _STRENGTH * weights)
        weights = weights - step
        if np.abs(step).max() < _ENOUGH:
            break
    return dict(zip(("base", "slope", "bend"), weights.tolist(), strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Blocks of queries with neighbouring forecasts of one model, each [C]: whose, the mean forecast, the mean score
    less the mean forecast, and the standard error of that."""

    model: npt.NDArray[np.intp]
    forecast: Doubles
    off: Doubles
    noise: Doubles


def cells_of(forecast: Numbers, score: Numbers, size: int = CELL) -> Cells:
    """Cut each model's observed rows into blocks of about `size` by forecast; models with fewer rows give none."""
    found: list[tuple[int, float, float, float]] = []
    for column in range(score.shape[1]):
        known = np.flatnonzero(np.isfinite(score[:, column]))
        order = known[np.argsort(forecast[known, column], kind="stable")]
        for block in np.array_split(order, len(order) // size) if len(order) >= size else ():
            true, told = score[block, column].astype(np.float64), float(forecast[block, column].mean())
            noise = max(float(true.std()), 0.5 / len(block)) / len(block) ** 0.5
            found.append((column, told, float(true.mean()) - told, noise))
    columns = np.array(found, dtype=np.float64).reshape(-1, 4).T
    return Cells(columns[0].astype(np.intp), columns[1], columns[2], columns[3])


def half_width(forecast: Numbers, score: Numbers) -> float:
    """Half the 90 % interval of a mean score around its forecast, beyond the chance of few outcomes: of ten cells nine
    lie within it and their own noise, added in quadrature. All models together; where there are few cells it follows
    from an upper bound of the mean square error beyond chance, and is wide."""
    cells = cells_of(forecast, score)
    if len(cells.off) < _FEWEST_CELLS:
        return _wide(cells_of(forecast, score, _SMALL_CELL))
    needed = np.sqrt(np.maximum(cells.off**2 - (_NORMAL_90 * cells.noise) ** 2, 0.0))
    return max(_conformal(needed, LEVEL), _LEAST_WIDTH)


def _wide(cells: Cells) -> float:
    if len(cells.off) < _FEWEST_SMALL_CELLS:
        return _UNKNOWN_MARGIN
    chance = float(np.mean(cells.noise**2))
    beyond = max(float(np.mean(cells.off**2)) - chance, 0.0)
    # A mean of n squares of normal errors is uncertain by sqrt(2 / n) of itself.
    most = beyond + _NORMAL_90 * (2 / len(cells.off)) ** 0.5 * (chance + beyond)
    return float(np.clip(_NORMAL_90 * most**0.5, _LEAST_WIDTH, _UNKNOWN_MARGIN))


def _conformal(residual: Numbers, level: float) -> float:
    """The ceil((n + 1) level)-th least residual; the greatest where n is too small for the level."""
    rank = min(int(np.ceil((len(residual) + 1) * level)), len(residual))
    return float(np.sort(residual)[max(rank, 1) - 1])
