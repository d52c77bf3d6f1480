"""Rounds to rows: means over splits of every metric, with paired intervals against the best single model and others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from routers.training.bootstrap import RESAMPLES, Difference, curves, differences, resample
from routers.training.choices import TRADE_OFFS, Bench, Taken
from routers.training.dataset import Doubles
from routers.training.judge import Round
from routers.training.metrics import afforded, aiq, cheapest_place, frontier, pareto_distance, rewards, tuned
from routers.training.references import BEST_SINGLE, LEAKY, ORACLE

# Shares of the best single model's score at which cost is compared.
EQUAL = {"99": 0.99, "100": 1.0}
# What routers are compared by with each other, not only with the best single model.
RIVALRY = ("aiq_log", "reward_PF", "reward_BAL", "reward_CF")

Curves = tuple[Doubles, Doubles]
Drawn = Sequence[Mapping[str, Doubles]]


@dataclass(frozen=True, slots=True)
class Row:
    """One router over all splits: means of metrics, their standard deviation over splits, and against others.

    `against` has every other router by name, with the differences in `RIVALRY`; best single with all that have one.
    """

    router: str
    leaky: bool
    metrics: Mapping[str, float]
    spread: Mapping[str, float]
    against: Mapping[str, Mapping[str, Difference]]

    @property
    def against_best_single(self) -> Mapping[str, Difference]:
        """Differences from the best single model."""
        return self.against[BEST_SINGLE]

    def as_json(self) -> dict[str, Any]:
        """Plain values; NaN as None."""
        return {
            "router": self.router,
            "leaky": self.leaky,
            "metrics": {name: _plain(value) for name, value in self.metrics.items()},
            "spread_over_splits": {name: _plain(value) for name, value in self.spread.items()},
            "against": {other: _told(found) for other, found in self.against.items() if other != self.router},
        }


def summarise(rounds: Sequence[Round], *, seed: int = 0, resamples: int = RESAMPLES) -> list[Row]:
    """One row for each router that was judged in every round, in the order of the first round."""
    names = [name for name in rounds[0].routers if all(name in one.routers for one in rounds)]
    weights = resample([one.bench.test.groups for one in rounds], seed, resamples)
    best = [curves(_with_tuned(one, BEST_SINGLE), rows) for one, rows in zip(rounds, weights, strict=True)]
    drawn: dict[str, Drawn] = {}
    found: dict[str, list[dict[str, float]]] = {}
    for name in names:
        common = _common_places(rounds, name)
        ours = [curves(_with_tuned(one, name), rows) for one, rows in zip(rounds, weights, strict=True)]
        drawn[name] = [_compared(one, at, top, common) for one, at, top in zip(rounds, ours, best, strict=True)]
        found[name] = [metrics_of(one, name, common) for one in rounds]
    means = {name: _over(each, np.mean) for name, each in found.items()}
    return [
        Row(name, name in LEAKY, means[name], _over(found[name], np.std), _against(name, names, drawn, means))
        for name in names
    ]


def metrics_of(one: Round, router: str, common: Mapping[str, int] | None = None) -> dict[str, float]:
    """Every metric of one router on one test side, as documented in docs/training.md."""
    bench, took, best = one.bench, one.routers[router].taken, one.routers[BEST_SINGLE].taken
    at = curves(_with_tuned(one, router))
    found = {name: float(value[0]) for name, value in _compared(one, at, curves(best), common or {}).items()}
    cost, score = at[0][0], at[1][0]
    for name in TRADE_OFFS:
        place = bench.at(name)
        found |= {f"score_{name}": float(score[place]), f"cost_{name}": float(cost[place])}
    ladder, (best_cost, best_score) = bench.ladder, _best_point(bench, best)
    found["perf_gain"] = float(score[ladder].max()) / best_score - 1
    for name, share in EQUAL.items():
        least = cheapest_place(cost[ladder], score[ladder], share * best_score)
        found[f"saving_{name}_in_sample"] = float("nan") if least is None else 1 - float(cost[least]) / best_cost
    found["cost_save"] = found["saving_100_in_sample"]
    found["pareto_dist"] = pareto_distance(_points(bench, took), _frontier(one))
    oracle = rewards(bench, *curves(one.routers[ORACLE].taken))
    for name, reward in oracle.items():
        found[f"share_of_oracle_{name}"] = found[f"reward_{name}"] / float(reward[0]) if reward[0] > 0 else float("nan")
    return {**found, **one.routers[router].figures}


def _with_tuned(one: Round, router: str) -> Taken:
    """What a router took, with a row more for each of `EQUAL`, and one at the best single's cost."""
    took, best = one.routers[router].taken, one.routers[BEST_SINGLE].taken
    pairs = [tuned(one.bench, took, best, share) for share in EQUAL.values()]
    pairs.append(afforded(one.bench, took, best))
    return Taken(
        np.concatenate([took.score, [score for score, _ in pairs]]),
        np.concatenate([took.cost, [cost for _, cost in pairs]]),
    )


def _compared(one: Round, at: Curves, best: Curves, common: Mapping[str, int]) -> dict[str, Doubles]:
    """The metrics that get intervals, of curves (cost, score) with tuned rows, in R resamples, to [R]."""
    bench, (cost, score) = one.bench, at
    first, last = len(bench.weights), len(bench.weights) + 1
    traced, ends = (cost[:, bench.traced], score[:, bench.traced]), (cost[:, first], cost[:, last])
    found = {f"aiq_{name}": aiq(*traced, *ends, log=name == "log") for name in ("log", "linear")}
    found |= {f"reward_{name}": value for name, value in rewards(bench, cost, score).items()}
    top = bench.at("PF")
    places = dict(common) | {name: last + 1 + row for row, name in enumerate(EQUAL)}
    for name, place in places.items():
        found[f"saving_{name}"] = 1 - cost[:, place] / np.maximum(best[0][:, top], 1e-12)
        found[f"score_kept_{name}"] = score[:, place] / np.maximum(best[1][:, top], 1e-12)
    found["gain_equal_cost"] = score[:, -1] - best[1][:, top]
    found["cost_equal_cost"] = cost[:, -1] / np.maximum(best[0][:, top], 1e-12)
    return found


def _common_places(rounds: Sequence[Round], name: str) -> dict[str, int]:
    """For each share of the best single's score the one cheapest weight that keeps it on the mean of all rounds."""
    if len({len(one.bench.weights) for one in rounds}) > 1:
        return {}
    bench = rounds[0].bench
    each = [_points(one.bench, one.routers[name].taken) for one in rounds]
    cost, score = np.mean(each, axis=0).T
    best = float(np.mean([_best_point(one.bench, one.routers[BEST_SINGLE].taken)[1] for one in rounds]))
    places = {f"{label}_common": cheapest_place(cost, score, share * best) for label, share in EQUAL.items()}
    return {label: bench.ladder.start + place for label, place in places.items() if place is not None}


def _against(
    name: str, names: Sequence[str], drawn: Mapping[str, Drawn], means: Mapping[str, Mapping[str, float]]
) -> dict[str, Mapping[str, Difference]]:
    found: dict[str, Mapping[str, Difference]] = {}
    for other in names:
        shared = drawn[name][0].keys() & drawn[other][0].keys()
        wanted = [
            metric for metric in drawn[name][0] if metric in shared and (other == BEST_SINGLE or metric in RIVALRY)
        ]
        gaps = {metric: means[name][metric] - means[other][metric] for metric in wanted}
        found[other] = differences(drawn[name], drawn[other], gaps)
    return found


def _best_point(bench: Bench, best: Taken) -> tuple[float, float]:
    top = bench.at("PF")
    return max(float(best.cost[top].mean()), 1e-12), max(float(best.score[top].mean()), 1e-12)


def _points(bench: Bench, took: Taken) -> Doubles:
    return np.column_stack([took.cost[bench.ladder].mean(axis=1), took.score[bench.ladder].mean(axis=1)])


def _frontier(one: Round) -> Doubles:
    """Of all that was judged without knowing the answers, and of every single model."""
    fair = [_points(one.bench, judged.taken) for name, judged in one.routers.items() if name not in LEAKY]
    bench = one.bench
    asked = bench.observed.any(axis=0)
    single = np.column_stack([np.nanmean(bench.cost[:, asked], axis=0), np.nanmean(bench.score[:, asked], axis=0)])
    return frontier(np.concatenate([*fair, single]))


def _over(each: Sequence[Mapping[str, float]], what: Any) -> dict[str, float]:
    names = [name for name in each[0] if all(name in one for one in each)]
    return {name: float(what([one[name] for one in each])) for name in names}


def _told(found: Mapping[str, Difference]) -> dict[str, Any]:
    return {
        name: {**{part: _plain(value) for part, value in asdict(one).items()}, "significant": one.significant}
        for name, one in found.items()
    }


def _plain(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None
