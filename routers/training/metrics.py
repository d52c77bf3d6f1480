"""What choices and forecasts are worth, as numbers; the definitions are in docs/training.md.

AIQ over log cost: the points (log mean cost, mean score) that a router reaches as the weight of cost goes from 0 to
infinity, and the cheapest single model's, are joined by their non-decreasing upper concave hull; the area under it
between the mean cost of the cheapest and of the dearest single model, divided by the width of that interval.
RouterBench's AIQ (arXiv 2403.12031) is the same over plain cost.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np
import numpy.typing as npt

from routers.learned import LearnedRouter
from routers.training.choices import TRADE_OFFS, Bench, Taken, choose_all, forecast_cost
from routers.training.dataset import Dataset, Doubles, Indices

# Where the cheapest model is free, log cost has no end: curves begin at this share of the dearest one's cost.
LEAST_SHARE = 1e-4
_FAR = 1e-12
# Resampled costs are means in single precision.
_ROUNDING = 1e-6
_INTERVAL = 1.645  # standard errors of a 90 % interval


def aiq(cost: Doubles, score: Doubles, low: Doubles, high: Doubles, *, log: bool = True) -> Doubles:
    """Average quality over cost of curves in rows: cost (USD) and score [R, L], ends [R] to [R]; see above.

    Points dearer than `high` are left out; a model that is nearly free costs `LEAST_SHARE` of the dearest. Where both
    ends are one, it is the best score.
    """
    axis = np.log if log else np.asarray
    high = np.maximum(high, _FAR)
    left, right = axis(np.maximum(low, high * LEAST_SHARE)), axis(high)
    x = np.maximum(axis(np.maximum(cost, _FAR)), left[:, None])
    within = x <= right[:, None] + _ROUNDING * np.maximum(np.abs(right[:, None]), right[:, None] - left[:, None])
    width = right - left
    area = _area(x, np.where(within, score, -np.inf), left, right)
    return np.where(width > 0, area / np.where(width > 0, width, 1.0), score.max(axis=1))


def _area(x: Doubles, y: Doubles, left: Doubles, right: Doubles) -> Doubles:
    """Area under the non-decreasing concave hull of each row's points, found by going to the steepest point."""
    at_x = left
    at_y = np.where(x <= x.min(axis=1, keepdims=True), y, -np.inf).max(axis=1)
    total = np.zeros(len(x))
    for _ in range(x.shape[1]):
        ahead = x - at_x[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where(ahead > _FAR, (y - at_y[:, None]) / ahead, -np.inf)
        place = slope.argmax(axis=1)[:, None]
        steepest = np.take_along_axis(slope, place, 1)[:, 0]
        rising = steepest > 0
        if not rising.any():
            break
        to_x = np.where(rising, np.take_along_axis(x, place, 1)[:, 0], at_x)
        to_y = np.where(rising, np.take_along_axis(y, place, 1)[:, 0], at_y)
        total += (to_x - at_x) * (to_y + at_y) / 2
        at_x, at_y = to_x, to_y
    return np.asarray(total + (right - at_x) * at_y, dtype=np.float64)


def rewards(bench: Bench, cost: Doubles, score: Doubles) -> dict[str, Doubles]:
    """GraphRouter's reward at the three trade-offs: curves [R, L + 2] to [R] each."""
    found = {}
    for name, (weight, cost_weight) in TRADE_OFFS.items():
        place = bench.at(name)
        found[name] = weight * score[:, place] - cost_weight * (cost[:, place] - bench.least) / bench.span
    return found


def tuned(bench: Bench, outcomes: Taken, best: Taken, share: float) -> tuple[Doubles, Doubles]:
    """Score and cost [Q] at the weight that keeps `share` of the best single's score: either half tuned on the other.

    The weight is the last of the ladder before the score on the tuning half falls below the target: stopping at the
    first failure, rather than taking the cheapest that happens to pass, keeps chance from choosing.
    """
    score, cost = np.empty(len(bench.score)), np.empty(len(bench.score))
    first = first_half(bench.test.groups)
    for half in (first, ~first):
        target = share * best.score[bench.at("PF"), ~half].mean()
        failing = np.flatnonzero(outcomes.score[bench.ladder][:, ~half].mean(axis=1) < target - _FAR)
        last = int(failing[0]) - 1 if len(failing) else bench.ladder.stop - 1
        score[half], cost[half] = outcomes.score[max(last, 0), half], outcomes.cost[max(last, 0), half]
    return score, cost


def afforded(bench: Bench, outcomes: Taken, best: Taken) -> tuple[Doubles, Doubles]:
    """Score and cost [Q] at the least weight from which on the best single's cost is kept to: either half tuned on the
    other."""
    score, cost = np.empty(len(bench.score)), np.empty(len(bench.score))
    first = first_half(bench.test.groups)
    for half in (first, ~first):
        most = best.cost[bench.at("PF"), ~half].mean() * (1 + _FAR)
        dear = np.flatnonzero(outcomes.cost[bench.ladder][:, ~half].mean(axis=1) > most)
        place = min(int(dear[-1]) + 1 if len(dear) else 0, bench.ladder.stop - 1)
        score[half], cost[half] = outcomes.score[place, half], outcomes.cost[place, half]
    return score, cost


def first_half(groups: Indices) -> npt.NDArray[np.bool_]:
    """Which rows are in one half of the questions, drawn once and for all."""
    names, inverse = np.unique(groups, return_inverse=True)
    drawn = np.random.default_rng(len(names)).permutation(len(names)) < max(len(names) // 2, 1)
    return np.asarray(drawn[inverse])


def cheapest_place(cost: Doubles, score: Doubles, target: float) -> int | None:
    """Where on a curve [L] the score is at least `target` at the least cost, None where it never is."""
    enough = score >= target - _FAR
    return int(np.where(enough, cost, np.inf).argmin()) if enough.any() else None


def frontier(points: Doubles) -> Doubles:
    """Of points (cost, score) [N, 2] those that no other beats in both, by rising cost."""
    by_cost = points[np.lexsort((-points[:, 1], points[:, 0]))]
    best = np.maximum.accumulate(by_cost[:, 1])
    first = np.concatenate([[True], best[1:] > best[:-1]])
    return np.asarray(by_cost[first], dtype=np.float64)


def pareto_distance(points: Doubles, best: Doubles) -> float:
    """Mean Euclidean distance of points (cost, score) [N, 2] to a frontier, log cost and score scaled to 0..1 by it."""
    low, high = _scaled(best).min(axis=0), _scaled(best).max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    ours, theirs = (_scaled(points) - low) / width, (_scaled(best) - low) / width
    return float(np.sqrt(((ours[:, None] - theirs[None]) ** 2).sum(axis=2)).min(axis=1).mean())


def _scaled(points: Doubles) -> Doubles:
    return np.column_stack([np.log(np.maximum(points[:, 0], _FAR)), points[:, 1]])


def brier(quality: npt.NDArray[np.floating], score: npt.NDArray[np.floating]) -> float:
    """Mean squared difference of forecast and observed score over the observed pairs."""
    known = ~np.isnan(score)
    return float(((quality[known].astype(np.float64) - score[known]) ** 2).mean())


def calibration_curve(
    quality: npt.NDArray[np.floating], score: npt.NDArray[np.floating], bins: int = 10
) -> tuple[Doubles, Doubles, Doubles]:
    """Mean forecast, mean score and share of pairs in bins of equal width over 0..1; empty bins are left out."""
    known = ~np.isnan(score)
    told, true = quality[known].astype(np.float64), score[known].astype(np.float64)
    cell = np.minimum((np.clip(told, 0, 1) * bins).astype(np.intp), bins - 1)
    count = np.bincount(cell, minlength=bins).astype(np.float64)
    full = count > 0
    mean_told = np.bincount(cell, told, bins)[full] / count[full]
    mean_true = np.bincount(cell, true, bins)[full] / count[full]
    return mean_told, mean_true, count[full] / count.sum()


def expected_calibration_error(quality: npt.NDArray[np.floating], score: npt.NDArray[np.floating]) -> float:
    """Mean |mean forecast - mean score| over ten bins of equal width, weighted by pairs, all models together."""
    told, true, share = calibration_curve(quality, score)
    return float((np.abs(told - true) * share).sum())


def interval_coverage(
    quality: npt.NDArray[np.floating],
    low: npt.NDArray[np.floating],
    high: npt.NDArray[np.floating],
    score: npt.NDArray[np.floating],
    size: int = 40,
) -> float:
    """Share of cells whose observed mean score lies in the forecast interval of the expected quality (stated: 90 %).

    A cell is about `size` queries of one model with neighbouring forecasts. The observed mean of a cell is noisy in
    itself, which is not the router's doing: the interval's half width and 1.645 standard errors of the mean are added
    in quadrature. NaN where no model has `size` outcomes.
    """
    hits: list[bool] = []
    for column in range(quality.shape[1]):
        known = np.flatnonzero(~np.isnan(score[:, column]))
        if len(known) < size:
            continue
        order = known[np.argsort(quality[known, column], kind="stable")]
        for cell in np.array_split(order, len(order) // size):
            true, told = score[cell, column].astype(np.float64), float(quality[cell, column].mean())
            off = float(true.mean()) - told
            bound = float((high if off > 0 else low)[cell, column].mean()) - told
            noise = _INTERVAL * max(float(true.std()), 0.5 / len(cell)) / len(cell) ** 0.5
            hits.append(abs(off) <= float(np.hypot(bound, noise)))
    return float(np.mean(hits)) if hits else float("nan")


def conformal_coverage(
    quality: npt.NDArray[np.floating], score: npt.NDArray[np.floating], groups: Indices, level: float = 0.9
) -> float:
    """Share of pairs whose |score - forecast| is within the bound that the other half of the test gives their model.

    It is near the level for any forecast whatever, and tells whether the halves are alike, not whether a router is
    good. Either half of the questions is bounded by the other: a model's bound is the ceil((n + 1) level)-th least
    residual there (Vovk; Lei et al. 2018), infinite where there are too few for the level.
    """
    residual = np.abs(score.astype(np.float64) - quality)
    first = first_half(groups)
    hits = []
    for half in (first, ~first):
        for column in residual.T:
            known = np.sort(column[~half & ~np.isnan(column)])
            rank = int(np.ceil((len(known) + 1) * level))
            bound = known[rank - 1] if 0 < rank <= len(known) else np.inf
            hits.append(column[half & ~np.isnan(column)] <= bound)
    return float(np.concatenate(hits).mean())


def token_coverage(high: npt.NDArray[np.floating], written: npt.NDArray[np.floating]) -> float:
    """Share of outputs no longer than their forecast 90th percentile `high`; NaN where no output was counted."""
    known = ~np.isnan(written)
    return float((written[known] <= high[known]).mean()) if known.any() else float("nan")


def decision_ms(router: LearnedRouter, test: Dataset, decisions: int = 200) -> tuple[float, float]:
    """Milliseconds of a decision over all models, median and 99th percentile: forecasts of one query, cost, choice."""
    weights, spent = np.ones(1), []
    for place in range(min(decisions, len(test)) + 5):
        row = place % len(test)
        inputs = test.inputs.rows(slice(row, row + 1))
        begun = perf_counter()
        told = router.predict(inputs, test.models)
        choose_all(told.quality, forecast_cost(told, test.models, inputs.tokens), weights)
        spent.append((perf_counter() - begun) * 1000)
    return float(np.median(spent[5:])), float(np.quantile(spent[5:], 0.99))
