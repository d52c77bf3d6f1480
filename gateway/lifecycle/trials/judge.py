"""From evidence to a verdict, in figures and in plain words. Pure.

Harm on any of M metrics, or an arm whose units are missing: each is tested at alpha / (M + 1), so that a draft without
harm is ever stopped with probability alpha at most. For a promotion all metrics must be shown to be within their
tolerances, each at alpha: a draft that is beyond one of them passes that one with probability alpha at most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from gateway.lifecycle.trials.assignment import Arm
from gateway.lifecycle.trials.betting import Wagers
from gateway.lifecycle.trials.evidence import Evidence
from gateway.lifecycle.trials.terms import RELATIVE, Limits, Metric

# With less in both arms together nothing is said of an arm that is empty.
_FEW_UNITS: Final = 50
_TITLES: Final = {
    Metric.ERRORS: "failed requests",
    Metric.COST: "cost per request",
    Metric.LATENCY: "slow requests",
    Metric.FEEDBACK: "bad feedback",
}


class Kind(StrEnum):
    """What is to be done."""

    WAITING = "waiting"
    HARM = "harm"
    MISSING = "missing"
    BROKEN = "broken"
    PROVED = "proved"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`figures` are JSON values: what decided, and how both arms stand."""

    kind: Kind
    words: str
    figures: dict[str, Any]


def judged(evidence: Evidence) -> Verdict:
    """By what is known now; may be asked at any time, as often as one likes."""
    limits = evidence.limits
    strict = math.log((len(limits.tolerance) + 1) / limits.alpha)
    figures = figures_of(evidence)
    harmful = [metric for metric in limits.tolerance if _above(evidence, metric) >= strict]
    if harmful:
        return Verdict(Kind.HARM, _harm(harmful, figures, limits), figures)
    if evidence.coin.canary_missing() >= strict:
        return Verdict(Kind.MISSING, _missing(evidence), figures)
    if evidence.coin.control_missing() >= strict:
        return Verdict(Kind.BROKEN, _broken(evidence), figures)
    unproved = [metric for metric in limits.tolerance if _below(evidence, metric) < math.log(1 / limits.alpha)]
    better = [metric for metric in limits.tolerance if evidence.wagers[metric].below(0.0) >= strict]
    enough = evidence.sums[Arm.CANARY].units >= limits.min_units
    if limits.tolerance and not unproved and (better or enough):
        return Verdict(Kind.PROVED, _proved(better, figures), figures)
    return Verdict(Kind.WAITING, _waiting(evidence, unproved), figures)


def figures_of(evidence: Evidence) -> dict[str, Any]:
    """Both arms, and of each metric the effect with an interval that holds at all times."""
    metrics = {metric: _metric(evidence, metric, wagers) for metric, wagers in evidence.wagers.items()}
    arms = {}
    for arm, sums in evidence.sums.items():
        arms[str(arm)] = {
            "units": sums.units,
            "requests": sums.requests,
            "cached": sums.cached,
            "clipped": sums.clipped,
            "unpriced": sums.unpriced,
            "cost_nanousd": sums.cost_nanousd,
        }
    return {"arms": arms, "metrics": {str(name): one for name, one in metrics.items()}, "upto": evidence.upto}


def _metric(evidence: Evidence, metric: Metric, wagers: Wagers) -> dict[str, Any]:
    limits, relative = evidence.limits, metric in RELATIVE
    control, canary = (evidence.sums[arm].mean(metric) for arm in (Arm.CONTROL, Arm.CANARY))
    low, high = wagers.interval(limits.alpha / (len(limits.tolerance) + 1))
    return {
        "control": control,
        "canary": canary,
        "units": {str(arm): sums.counted.get(metric, 0) for arm, sums in evidence.sums.items()},
        "effect": _effect(control, canary, relative),
        "low": _finite(low),
        "high": _finite(high),
        "relative": relative,
        "tolerance": limits.tolerance[metric],
        "p_harm": _chance(_above(evidence, metric)),
        "p_no_harm": _chance(_below(evidence, metric)),
    }


def _above(evidence: Evidence, metric: Metric) -> float:
    return evidence.wagers[metric].above(float(evidence.limits.tolerance[metric]))


def _below(evidence: Evidence, metric: Metric) -> float:
    return evidence.wagers[metric].below(float(evidence.limits.tolerance[metric]))


def _chance(logarithm: float) -> float:
    """An anytime-valid p-value: how improbable such a capital is where nothing is to be found."""
    return min(1.0, math.exp(-logarithm)) if logarithm > 0 else 1.0


def _effect(control: float | None, canary: float | None, relative: bool) -> float | None:
    if control is None or canary is None:
        return None
    if not relative:
        return canary - control
    return canary / control - 1 if control else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _harm(harmful: list[Metric], figures: dict[str, Any], limits: Limits) -> str:
    said = "; ".join(_compared(metric, figures["metrics"][metric]) for metric in harmful)
    return f"The draft does harm beyond what is tolerated: {said}. Proved at alpha {limits.alpha:g} over all metrics."


def _compared(metric: Metric, found: dict[str, Any]) -> str:
    low, high = (_shown(found[end], found["relative"]) for end in ("low", "high"))
    tolerated = _shown(found["tolerance"], found["relative"])
    means = "" if metric is Metric.COST else f"{found['canary']:.1%} against {found['control']:.1%}, "
    return f"{_TITLES[metric]}: {means}effect between {low} and {high} (tolerated {tolerated})"


def _shown(value: float | None, relative: bool) -> str:
    if value is None:
        return "unknown"
    return f"{value:+.1%}" if relative else f"{100 * value:+.2f} points"


def _missing(evidence: Evidence) -> str:
    units, share = evidence.sums[Arm.CANARY].units, evidence.sums[Arm.CONTROL].units
    return (
        f"Requests of the canary arm do not come back: {units} units are in the ledger beside {share} of the control, "
        "far too few for its share. They hang for longer than settle_s, or get lost."
    )


def _broken(evidence: Evidence) -> str:
    units, share = evidence.sums[Arm.CANARY].units, evidence.sums[Arm.CONTROL].units
    return (
        f"The arms are not as they were drawn: {units} units of the canary beside {share} of the control, far too many "
        "for its share. Nothing can be said of the draft."
    )


def _proved(better: list[Metric], figures: dict[str, Any]) -> str:
    told = "; ".join(_compared(metric, figures["metrics"][metric]) for metric in better or figures["metrics"])
    advantage = "better" if better else "within all tolerances"
    return f"The draft is {advantage}: {told}."


def _waiting(evidence: Evidence, unproved: list[Metric]) -> str:
    units = {arm: sums.units for arm, sums in evidence.sums.items()}
    if not sum(units.values()):
        return "No unit is counted yet: a unit counts window_s + settle_s after its first request."
    if sum(units.values()) >= _FEW_UNITS and not min(units.values()):
        empty = next(arm for arm, count in units.items() if not count)
        return f"No unit is in the {empty} arm yet. Where few keys ask, give unit = 'request' or another share."
    silent = [one for one in unproved if not any(sums.counted.get(one) for sums in evidence.sums.values())]
    if silent:
        names = ", ".join(_TITLES[one] for one in silent)
        return f"Nothing is known yet of: {names}. Neither harm nor its absence is proved."
    if unproved:
        names = ", ".join(_TITLES[one] for one in unproved)
        return f"Neither harm nor its absence is proved for: {names}."
    return f"Within all tolerances; {evidence.limits.min_units} units of the canary or an advantage are still wanted."
