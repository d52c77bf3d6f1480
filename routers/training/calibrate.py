"""Fits what `routers.calibration` serves, on forecasts for rows that the router was not fitted on.

All arrays are [Q, M] unless said; NaN in `score` or `written` is *not observed*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from routers.calibration import LEVEL, LEVELS, QualityMap, TokenBounds
from routers.inputs import Floats
from routers.training.dataset import Doubles

Numbers = npt.NDArray[np.floating]

KNOTS = 33
# How many outcomes of its own weigh as much as what all models have shown together.
QUALITY_SHRINKAGE = 60.0
MARGIN_SHRINKAGE = 10.0
TOKEN_SHRINKAGE = 30.0
_SLOPES = (0.25, 8.0)
# Queries of one model whose forecasts are neighbours, and whose mean score is one observation for intervals.
CELL = 40
_NORMAL_90 = 1.645
_FEWEST_CELLS = 20
# Where there are fewer: cells of so many queries, of which there must be so many.
_SMALL_CELL, _FEWEST_SMALL_CELLS = 15, 4
# Where there is too little to estimate an interval from, half its width.
_UNKNOWN_MARGIN = 0.25
_LEAST_WIDTH = 0.01
_HARDLY = 1e-6


def fit_quality_map(
    forecast: Numbers,
    score: Numbers,
    models: Sequence[str],
    strangers: Numbers | None = None,
    shrinkage: float = QUALITY_SHRINKAGE,
) -> QualityMap:
    """Isotonic recalibration of each model, drawn to that of all models together where its outcomes are few.

    `strangers` are forecasts for the same pairs by routers that never saw the pair's model; the row of unknown models
    is fitted on them. `ValueError` where there is no outcome at all.
    """
    if not np.isfinite(score).any():
        raise ValueError("there is no outcome to calibrate on: bring rows with a score")
    values = _values(forecast, score, shrinkage)
    if strangers is not None:
        values[-1] = _values(strangers, score, shrinkage)[-1]
    margins = _margins(forecast, score, shrinkage)
    if strangers is not None:
        margins[-1] = _stranger_margins(strangers, score, values[-1])
    return QualityMap(tuple(models), values.astype(np.float32), margins.astype(np.float32))


def fit_token_bounds(
    tokens: Numbers, written: Numbers, models: Sequence[str], strangers: Numbers | None = None
) -> TokenBounds:
    """Split-conformal quantiles of log(written / tokens), each model's drawn to those of all where its rows are few.

    A level's offset is the ceil((n + 1) level)-th least residual (Vovk; Lei et al. 2018), so that a new query of the
    model stays below it with that probability at least, if it comes from where the calibration rows come from.
    `strangers` as for `fit_quality_map`. Without any token count the offsets are 0.
    """
    offsets = np.zeros((len(models) + 1, len(LEVELS)), dtype=np.float32)
    residual = _log_ratio(written, tokens)
    everyone = _sample(residual if strangers is None else _log_ratio(written, strangers))
    shared = _sample(residual)
    if not len(shared):
        return TokenBounds(tuple(models), offsets)
    for place in range(len(models)):
        own = residual[:, place]
        offsets[place] = _blended_quantiles(own[np.isfinite(own)], shared)
    offsets[-1] = _conformal_quantiles(everyone, np.ones(len(everyone)))
    return TokenBounds(tuple(models), offsets)


def pooled_slope(values: Doubles, weights: Doubles) -> Doubles:
    """The non-decreasing sequence nearest to `values` [K] in weighted squares (pool adjacent violators)."""
    level: list[float] = []
    weight: list[float] = []
    count: list[int] = []
    for value, mass in zip(values.tolist(), weights.tolist(), strict=True):
        level.append(value)
        weight.append(mass)
        count.append(1)
        while len(level) > 1 and level[-2] > level[-1]:
            total = weight[-2] + weight[-1]
            level[-2] = (level[-2] * weight[-2] + level[-1] * weight[-1]) / total
            weight[-2], count[-2] = total, count[-2] + count[-1]
            del level[-1], weight[-1], count[-1]
    return np.repeat(level, count)


def _values(forecast: Numbers, score: Numbers, shrinkage: float) -> Doubles:
    """[M + 1, K]: quality at the knots, the last row for all models together.

    What is estimated at a knot is the shift of the mean score from the mean forecast, so that a router that is right
    already stays as it is.
    """
    knots = np.linspace(0, 1, KNOTS)
    known = np.isfinite(score)
    cell = np.rint(np.clip(forecast, 0, 1) * (KNOTS - 1)).astype(np.intp)
    columns = np.broadcast_to(np.arange(score.shape[1]), score.shape)[known]
    flat = columns * KNOTS + cell[known]
    shape = (score.shape[1], KNOTS)
    count = np.bincount(flat, minlength=shape[0] * KNOTS).reshape(shape).astype(np.float64)
    error = (score[known] - forecast[known]).astype(np.float64)
    total = np.bincount(flat, error, shape[0] * KNOTS).reshape(shape)
    whole = (total.sum(0)) / (count.sum(0) + shrinkage)
    shared = pooled_slope(np.clip(knots + whole, 0, 1), count.sum(0) + 1e-3)
    shift = (total + shrinkage * (shared - knots)) / (count + shrinkage)
    rows = [pooled_slope(np.clip(knots + one, 0, 1), mass + 1.0) for one, mass in zip(shift, count, strict=True)]
    return np.array([*rows, shared])


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


def common_line(told: Numbers, usual: Numbers, score: Numbers) -> tuple[float, float]:
    """Shift and slope by which the mean score of all models follows the mean forecast, both as deviations from the
    usual ones, by least squares over queries; what sets a model apart is taken as forecast, [Q, M].

    Forecasts that are smoothed for the sake of choices say too little of how hard a query is for everyone, those of
    neighbours lean to where queries are dense. With the shift these queries are forecast as hard as usual in the mean:
    that is known from all queries, far better than these few could tell. The slope is drawn to 1 where they are few.
    """
    deviations = told - usual
    common = deviations.mean(axis=1, dtype=np.float64)
    seen = ~np.isnan(score)
    count = seen.sum(axis=1)
    rests = np.where(seen, score - usual - (deviations - common[:, None]), 0.0).sum(axis=1)
    moved, found = common[count > 0], rests[count > 0] / count[count > 0]
    if not len(moved) or np.ptp(moved) < _HARDLY:
        return 0.0, 1.0
    middle, goal = float(moved.mean()), float(found.mean())
    apart = moved - middle
    # The slope is taken to lie about 1 from 1 before anything is seen.
    strength = float(np.var(found - moved)) + _HARDLY
    slope = float(np.clip((apart @ (found - goal) + strength) / (apart @ apart + strength), *_SLOPES))
    return -slope * middle, slope


def _margins(forecast: Numbers, score: Numbers, shrinkage: float) -> Doubles:
    """[M + 1, K] half widths, from cells of either half of the rows under the map of the other half."""
    halves = np.arange(len(score)) % 2
    parts = []
    for half in (0, 1):
        values = _values(forecast[halves != half], score[halves != half], shrinkage)
        here = forecast[halves == half]
        told = _through(values[:-1], here)
        parts.append(cells_of(told, score[halves == half]))
    cells = Cells(*(np.concatenate([getattr(one, name) for one in parts]) for name in Cells.__slots__))
    return _widths(cells, score.shape[1])


def _stranger_margins(strangers: Numbers, score: Numbers, values: Doubles) -> Doubles:
    told = _through(np.tile(values, (score.shape[1], 1)), strangers)
    cells = cells_of(told, score)
    # One row for all: whose cells they are does not matter.
    shared: Doubles = _widths(Cells(np.zeros_like(cells.model), cells.forecast, cells.off, cells.noise), 1)[-1]
    return shared


def _widths(cells: Cells, models: int) -> Doubles:
    """Half widths of 90 % intervals of a cell's true mean, by model and knot.

    The spread of true means is what is left of the cells' squared deviations after their noise (method of moments);
    a factor that is the conformal quantile of standardised deviations makes 90 % of it, whatever its shape.
    """
    if len(cells.off) < _FEWEST_CELLS:
        return np.full((models + 1, KNOTS), _UNKNOWN_MARGIN)
    excess = cells.off**2 - cells.noise**2
    whole = max(float(excess.mean()), 1e-5)
    count = np.bincount(cells.model, minlength=models)
    own = (np.bincount(cells.model, excess, models) + MARGIN_SHRINKAGE * whole) / (count + MARGIN_SHRINKAGE)
    spread = np.sqrt(np.maximum(np.append(own, whole), whole / 4))
    needed = np.sqrt(np.maximum(cells.off**2 - (_NORMAL_90 * cells.noise) ** 2, 0)) / spread[cells.model]
    factor = max(float(_conformal(needed, LEVEL)), 0.5)
    return np.repeat((factor * spread)[:, None], KNOTS, axis=1)


def _through(values: Doubles, forecast: Numbers) -> Doubles:
    """Each column [Q, M] through its own row of a table [M, KNOTS]."""
    knots = np.linspace(0, 1, KNOTS)
    pairs = zip(forecast.T, values, strict=True)
    found: Doubles = np.column_stack([np.interp(np.clip(column, 0, 1), knots, row) for column, row in pairs])
    return found


def _conformal(residual: Numbers, level: float) -> float:
    """The ceil((n + 1) level)-th least residual; the greatest where n is too small for the level."""
    rank = min(int(np.ceil((len(residual) + 1) * level)), len(residual))
    return float(np.sort(residual)[max(rank, 1) - 1])


def _log_ratio(written: Numbers, tokens: Numbers) -> Floats:
    with np.errstate(invalid="ignore"):
        found: Floats = np.log(np.maximum(written, 1)) - np.log(np.maximum(tokens, 1))
    return found


def _sample(residual: Numbers) -> Doubles:
    """Residuals of all models, as if each had as many rows."""
    columns = [np.sort(one[np.isfinite(one)]) for one in residual.T]
    grid = (np.arange(200) + 0.5) / 200
    return np.concatenate([np.quantile(one, grid) for one in columns if len(one)] or [np.empty(0)])


def _blended_quantiles(own: Numbers, shared: Doubles) -> Doubles:
    """Quantiles of the model's residuals, with those of all models as `TOKEN_SHRINKAGE` further ones."""
    weight = TOKEN_SHRINKAGE / (1 + len(own) / TOKEN_SHRINKAGE) / len(shared)
    values = np.concatenate([own, shared])
    return _conformal_quantiles(values, np.concatenate([np.ones(len(own)), np.full(len(shared), weight)]))


def _conformal_quantiles(values: Numbers, weights: Doubles) -> Doubles:
    """Weighted quantiles at `LEVELS`, one further residual counting as infinite above and as -infinite below."""
    order = np.argsort(values, kind="stable")
    passed = np.cumsum(weights[order])
    wanted = np.array([level * (passed[-1] + 1) - (level < 0.5) for level in LEVELS])
    place = np.minimum(np.searchsorted(passed, wanted - 1e-9), len(values) - 1)
    found: Doubles = np.asarray(values, dtype=np.float64)[order][place]
    return found
