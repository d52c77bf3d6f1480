"""All that is known of a canary: for each metric the bets, the arms' sums, and up to when units were counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np

from gateway.lifecycle.trials.assignment import Arm
from gateway.lifecycle.trials.betting import BETS, Coin, Doubles, Margins, Units, Wagers
from gateway.lifecycle.trials.terms import RELATIVE, Limits, Metric

CLIENT_LEFT: Final = 499
ARMS: Final = (Arm.CONTROL, Arm.CANARY)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of a unit, as the ledger has it."""

    id: str
    status: int
    cost_nanousd: int | None
    total_ms: float | None
    cached: bool


@dataclass(frozen=True, slots=True)
class UnitSeen:
    """A unit with its requests of its first `window_s`; `share` is the chance that it had of being in the canary."""

    unit: str
    first_at: float
    canary: bool
    share: float
    requests: tuple[Asked, ...]

    @property
    def arm(self) -> Arm:
        """By name."""
        return Arm.CANARY if self.canary else Arm.CONTROL


@dataclass(slots=True)
class Sums:
    """Of one arm, over counted units; `cost_nanousd` is what was paid, without a cap."""

    units: int = 0
    requests: int = 0
    cached: int = 0
    clipped: int = 0
    unpriced: int = 0
    cost_nanousd: int = 0
    counted: dict[str, int] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)

    def add(self, metric: Metric, value: float) -> None:
        """One more unit's value."""
        self.counted[metric] = self.counted.get(metric, 0) + 1
        self.totals[metric] = self.totals.get(metric, 0.0) + value

    def mean(self, metric: Metric) -> float | None:
        """Of the units' values; None before the first."""
        count = self.counted.get(metric, 0)
        return self.totals[metric] / count if count else None


@dataclass(slots=True, eq=False)
class Evidence:
    """`upto`: units that first asked by then (Unix seconds) are counted; `feedback_upto`: what was said of them too."""

    limits: Limits
    coin: Coin
    wagers: dict[Metric, Wagers]
    sums: dict[Arm, Sums]
    upto: float
    feedback_upto: float

    @classmethod
    def begin(cls, limits: Limits, started_at: float) -> Evidence:
        """Nothing is known."""
        wagers = {one: Wagers.begin(margins(one, limits)) for one in limits.tolerance}
        upto = started_at + limits.warm_up_s
        return cls(limits, Coin.begin(), wagers, {arm: Sums() for arm in ARMS}, upto, upto)

    def take(self, units: Sequence[UnitSeen]) -> None:
        """Count further units, in the order in which they came, in all metrics but what is said of them."""
        if not units:
            return
        self.coin.take(_units(units, [0.0] * len(units)))
        for one in units:
            self._sum(one)
        for metric in self.wagers.keys() - {Metric.FEEDBACK}:
            self._bet(metric, [(one, values(metric, one, self.limits)) for one in units])

    def take_feedback(self, said: Sequence[tuple[UnitSeen, float]]) -> None:
        """Units that were judged, in their order, and the mean score (0..1) of each."""
        if Metric.FEEDBACK in self.wagers:
            self._bet(Metric.FEEDBACK, [(one, 1.0 - score) for one, score in said])

    def _bet(self, metric: Metric, found: Sequence[tuple[UnitSeen, float | None]]) -> None:
        known = [(one, value) for one, value in found if value is not None]
        if known:
            self.wagers[metric].take(_units([one for one, _ in known], [value for _, value in known]))
        for one, value in known:
            self.sums[one.arm].add(metric, value)

    def _sum(self, one: UnitSeen) -> None:
        sums, cap = self.sums[one.arm], self.limits.cost_cap_nanousd
        costs = [_cost(row) for row in one.requests]
        sums.units += 1
        sums.requests += len(one.requests)
        sums.cached += sum(row.cached for row in one.requests)
        sums.unpriced += sum(cost is None for cost in costs)
        sums.cost_nanousd += sum(cost or 0 for cost in costs)
        sums.clipped += sum(cap is not None and (cost or 0) > cap for cost in costs)

    def pack(self) -> bytes:
        """For storing; a few tens of kilobytes."""
        told = {
            "upto": self.upto,
            "feedback_upto": self.feedback_upto,
            "coin": [self.coin.missing.tobytes(), self.coin.surplus.tobytes()],
            "wagers": {
                metric: [one.up.tobytes(), one.down.tobytes(), one.units, one.total]
                for metric, one in self.wagers.items()
            },
            "sums": {arm: msgspec.structs.asdict(_Sums(*_fields(one))) for arm, one in self.sums.items()},
        }
        return msgspec.msgpack.encode(told)

    @classmethod
    def unpack(cls, limits: Limits, stored: bytes) -> Evidence:
        """What `pack` made."""
        told: dict[str, Any] = msgspec.msgpack.decode(stored)
        missing, surplus = (_doubles(one, (len(BETS),)) for one in told["coin"])
        wagers = {Metric(name): _wagers(Metric(name), limits, one) for name, one in told["wagers"].items()}
        sums = {Arm(name): Sums(**one) for name, one in told["sums"].items()}
        return cls(limits, Coin(missing, surplus), wagers, sums, told["upto"], told["feedback_upto"])


class _Sums(msgspec.Struct):
    units: int
    requests: int
    cached: int
    clipped: int
    unpriced: int
    cost_nanousd: int
    counted: dict[str, int]
    totals: dict[str, float]


def _fields(one: Sums) -> tuple[Any, ...]:
    return tuple(getattr(one, name) for name in _Sums.__struct_fields__)


def margins(metric: Metric, limits: Limits) -> Margins:
    """The effects that are tested."""
    return Margins.of(limits.tolerance[metric], relative=metric in RELATIVE)


def values(metric: Metric, unit: UnitSeen, limits: Limits) -> float | None:
    """A unit's value in 0..1; None where nothing is known.

    Errors: the share of its requests that failed, whoever's fault (both arms have the same callers; who hung up did not
    fail). Cost: the mean as a share of the cap. Latency: the share that took longer than `slow_ms` in all.
    """
    if metric is Metric.ERRORS:
        found = [float(row.status >= 400 and row.status != CLIENT_LEFT) for row in unit.requests]
    elif metric is Metric.COST:
        cap = limits.cost_cap_nanousd or 1
        costs = [_cost(row) for row in unit.requests]
        found = [min(max(cost, 0), cap) / cap for cost in costs if cost is not None]
    elif metric is Metric.LATENCY:
        found = [float(row.total_ms > (limits.slow_ms or 0)) for row in unit.requests if row.total_ms is not None]
    else:
        return None
    return sum(found) / len(found) if found else None


def _cost(row: Asked) -> int | None:
    """A failure without a price cost nothing; an answer without one can't be judged."""
    return row.cost_nanousd if row.cost_nanousd is not None or row.status == 200 else 0


def _units(units: Sequence[UnitSeen], found: Sequence[float]) -> Units:
    return Units(np.array(found), np.array([one.canary for one in units]), np.array([one.share for one in units]))


def _wagers(metric: Metric, limits: Limits, stored: Sequence[Any]) -> Wagers:
    made = margins(metric, limits)
    shape = (len(made.values), len(BETS))
    up, down = (_doubles(one, shape) for one in stored[:2])
    return Wagers(made, up, down, stored[2], stored[3])


def _doubles(stored: bytes, shape: tuple[int, ...]) -> Doubles:
    return np.frombuffer(stored, dtype=np.float64).reshape(shape).copy()
