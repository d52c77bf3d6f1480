"""How often trials of equal policies are called harmful though one looks all the time, and how soon harm is found.

    python -m benchmarks.canary [--trials 500] [--units 4000] [--share 0.1] [--seed 1] [--json]

Simulated units come one after the other; a look follows every 25. "ours" is the trial's own test with its four metrics
at alpha 0.05 over all of them. "t-test" is Welch's at every look, uncorrected, as a dashboard invites to; "rows" means
that it takes each request for a draw of its own. Users ask a geometric number of times and differ from each other.
First all arms are equal (tolerances 0): a verdict of harm is false. Then harm as large as is tolerated: false as well.
Then a draft that is worse in one metric; units of the canary arm until harm is proved, and requests that it served by
then. Last, drafts without harm: units of the canary arm until they are proved.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.gateway.machine import facts
from gateway.lifecycle.trials.betting import Coin, Doubles, Flags, Margins, Units, Wagers
from gateway.lifecycle.trials.terms import RELATIVE, TOLERANCES, Metric

ALPHA = 0.05
LOOK = 25
TWO_SIDED = 1.959964
LEAST_PER_ARM = 30
METRICS = (Metric.ERRORS, Metric.COST, Metric.LATENCY, Metric.FEEDBACK)


@dataclass(frozen=True, slots=True)
class World:
    """Means of both arms: shares of errors and slow requests, cost as a share of the cap, bad feedback. `spread`: how
    much users differ. `waves`: now and then all fail and all are slow. `ramp`: the share is raised half-way."""

    errors: tuple[float, float] = (0.01, 0.01)
    cost: tuple[float, float] = (0.1, 0.1)
    latency: tuple[float, float] = (0.1, 0.1)
    feedback: tuple[float, float] = (0.3, 0.3)
    spread: float = 0.5
    waves: bool = False
    ramp: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Values [N, 4] of units, and sums over their requests with how many [N] there were."""

    values: Doubles
    requests: Doubles
    canary: Flags
    share: Doubles


def drawn(world: World, count: int, share: float, rng: np.random.Generator) -> Stream:
    """One trial's traffic."""
    chance = np.full(count, share)
    if world.ramp:
        chance[count // 2 :] = min(5 * share, 0.5)
    canary, requests = rng.random(count) < chance, rng.geometric(0.3, count).astype(np.float64)
    wave = (np.sin(np.arange(count) / 150) > 0.95) if world.waves else np.zeros(count, dtype=bool)
    own = rng.gamma(1 / world.spread**2, world.spread**2, (count, 4))
    arms = np.array([world.errors, world.cost, world.latency, world.feedback])
    mean = np.where(canary[:, None], arms[:, 1], arms[:, 0]) * own
    mean[:, (0, 2)] = np.where(wave[:, None], 0.8, mean[:, (0, 2)])
    mean = np.clip(mean, 0.0, 1.0)
    many = requests[:, None].astype(np.int64)
    shares = rng.binomial(many, mean[:, (0, 2)]) / requests[:, None]
    cost = np.minimum(mean[:, 1] * rng.gamma(2 * requests, 1 / (2 * requests)), 1.0)
    said = np.clip(mean[:, 3] + rng.normal(0, 0.25, count) / np.sqrt(requests), 0.0, 1.0)
    return Stream(np.column_stack([shares[:, 0], cost, shares[:, 1], said]), requests, canary, chance)


@dataclass(frozen=True, slots=True)
class Found:
    """How many units of the canary arm, and requests of theirs, had come by a verdict; None: there was none."""

    units: int
    requests: int


def ours(stream: Stream, tolerances: dict[Metric, float], *, proof: bool = False) -> Found | None:
    """When harm is called, or its absence in all metrics."""
    # Of the grid of margins only the tolerance decides; its bets do not depend on the others.
    grids = [Margins(np.array([tolerances[one]]), one in RELATIVE) for one in METRICS]
    wagers = [Wagers.begin(grid) for grid in grids]
    coin, wanted = Coin.begin(), math.log((len(METRICS) + 1) / ALPHA)
    for begun in range(0, len(stream.values), LOOK):
        part = slice(begun, begun + LOOK)
        units = [Units(stream.values[part, place], stream.canary[part], stream.share[part]) for place in range(4)]
        coin.take(units[0])
        for wager, some in zip(wagers, units, strict=True):
            wager.take(some)
        pairs = list(zip(wagers, METRICS, strict=True))
        if proof:
            over = all(wager.below(tolerances[one]) >= math.log(1 / ALPHA) for wager, one in pairs)
        else:
            harm = max(wager.above(tolerances[one]) for wager, one in pairs)
            over = max(harm, coin.canary_missing()) >= wanted
        if over:
            return _by(stream, begun + LOOK)
    return None


def welch(stream: Stream, *, rows: bool = False, metrics: tuple[int, ...] = (0, 1, 2, 3)) -> Found | None:
    """When a t-test, repeated at every look, first finds that the canary's mean is higher, at 0.05 two-sided."""
    weights = stream.requests if rows else np.ones(len(stream.values))
    for upto in range(LOOK, len(stream.values) + 1, LOOK):
        canary = stream.canary[:upto]
        if min(canary.sum(), (~canary).sum()) < LEAST_PER_ARM:
            continue
        for place in metrics:
            if _welch(stream.values[:upto, place], weights[:upto], canary) > TWO_SIDED:
                return _by(stream, upto)
    return None


def _welch(values: Doubles, weights: Doubles, canary: Flags) -> float:
    means, errors = [], []
    for arm in (canary, ~canary):
        count, value = weights[arm].sum(), values[arm]
        mean = float((weights[arm] * value).sum() / count)
        means.append(mean)
        errors.append(float((weights[arm] * (value - mean) ** 2).sum() / count**2))
    return (means[0] - means[1]) / math.sqrt(max(sum(errors), 1e-18))


def _by(stream: Stream, upto: int) -> Found:
    canary = stream.canary[:upto]
    return Found(int(canary.sum()), int(stream.requests[:upto][canary].sum()))


NONE_TOLERATED = dict.fromkeys(METRICS, 0.0)
EQUAL = {
    "equal": World(),
    "equal, users differ greatly": World(spread=1.5),
    "equal, outages of both arms": World(waves=True),
    "equal, outages, share raised fivefold": World(waves=True, ramp=True),
}
AT_THE_EDGE = World(errors=(0.01, 0.02), cost=(0.1, 0.11), latency=(0.1, 0.12), feedback=(0.3, 0.35))
HARMS = {
    "errors 1% -> 5%": World(errors=(0.01, 0.05)),
    "errors 1% -> 20%": World(errors=(0.01, 0.2)),
    "cost +30%": World(cost=(0.1, 0.13)),
    "cost x 2": World(cost=(0.1, 0.2)),
    "slow 10% -> 25%": World(latency=(0.1, 0.25)),
    "feedback -0.1": World(feedback=(0.3, 0.4)),
}


def falsely(world: World, tolerances: dict[Metric, float], options: argparse.Namespace) -> dict[str, object]:
    """Shares of trials that call harm what is none."""
    test: dict[str, Callable[[Stream], Found | None]] = {"ours": lambda one: ours(one, tolerances)}
    if tolerances is NONE_TOLERATED:
        test |= {"t-test": welch, "t-test rows": lambda one: welch(one, rows=True)}
    called = dict.fromkeys(test, 0)
    for seed in range(options.trials):
        stream = drawn(world, options.units, options.share, np.random.default_rng([options.seed, seed]))
        for name, verdict in test.items():
            called[name] += verdict(stream) is not None
    return {name: round(count / options.trials, 4) for name, count in called.items()}


def delay(world: World, options: argparse.Namespace, *, proof: bool = False) -> dict[str, object]:
    """Until the verdict, over a tenth as many trials, each ten times as long."""
    trials, count = max(options.trials // 10, 5), options.units * 10
    found = []
    for seed in range(trials):
        stream = drawn(world, count, options.share, np.random.default_rng([options.seed, 1, seed]))
        found.append(ours(stream, dict(TOLERANCES), proof=proof))
    units = [one.units if one is not None else math.inf for one in found]
    requests = [one.requests if one is not None else math.inf for one in found]
    return {
        "found": sum(one is not None for one in found) / trials,
        "units, median": float(np.quantile(units, 0.5, method="higher")),
        "units, 9 of 10": float(np.quantile(units, 0.9, method="higher")),
        "requests, median": float(np.quantile(requests, 0.5, method="higher")),
    }


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--units", type=int, default=4000)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: dict[str, dict[str, object]] = {}
    for name, world in EQUAL.items():
        rows[name] = falsely(world, NONE_TOLERATED, options)
    edge = replace(AT_THE_EDGE, spread=0.5)
    rows["all four as much worse as tolerated"] = falsely(edge, dict(TOLERANCES), options)
    rows |= {name: delay(world, options) for name, world in HARMS.items()}
    rows["equal: no harm proved"] = delay(World(), options, proof=True)
    rows["cost halved: no harm proved"] = delay(World(cost=(0.1, 0.05)), options, proof=True)
    if options.json:
        print(json.dumps({"machine": facts(), "rows": rows}, indent=2))
        return
    for name, row in rows.items():
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
