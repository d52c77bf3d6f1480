"""From requests to a verdict: what a unit's values are, what is harm, what is proof, and what is said of it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from gateway.lifecycle.trials.assignment import Arm
from gateway.lifecycle.trials.evidence import Asked, Evidence, UnitSeen, values
from gateway.lifecycle.trials.judge import Kind, judged
from gateway.lifecycle.trials.terms import Limits, Metric, Mode, field_fault

ALL = {Metric.ERRORS: 0.02, Metric.COST: 0.1, Metric.LATENCY: 0.05}
LIMITS = Limits(ALL, slow_ms=100.0, cost_cap_nanousd=1000, min_units=200)
FINE = Asked("r", 200, 400, 50.0, cached=False)


def unit(number: int, *, canary: bool, share: float = 0.5, asked: tuple[Asked, ...] = (FINE,)) -> UnitSeen:
    return UnitSeen(f"{number:016x}", float(number), canary, share, asked)


def arms(count: int, canary: Asked, control: Asked = FINE, share: float = 0.5, every: int = 10) -> list[UnitSeen]:
    """Units of both arms; one in `every` of an arm has what that arm is given, the others are fine."""
    rng, found = random.Random(1), []
    for number in range(count):
        served = rng.random() < share
        asked = (canary if served else control) if rng.random() < 1 / every else FINE
        found.append(unit(number, canary=served, share=share, asked=(asked,)))
    return found


def known(units: list[UnitSeen], limits: Limits = LIMITS) -> Evidence:
    evidence = Evidence.begin(limits, 0.0)
    evidence.take(units)
    return evidence


@pytest.mark.parametrize(
    ("asked", "errors", "cost", "slow"),
    [
        ((FINE,), 0.0, 0.4, 0.0),
        ((FINE, replace(FINE, status=502, cost_nanousd=None)), 0.5, 0.2, 0.0),
        ((replace(FINE, status=400, cost_nanousd=None),), 1.0, 0.0, 0.0),
        ((replace(FINE, status=499),), 0.0, 0.4, 0.0),
        ((replace(FINE, cost_nanousd=5000, total_ms=101.0),), 0.0, 1.0, 1.0),
        ((replace(FINE, cost_nanousd=None, total_ms=None),), 0.0, None, None),
    ],
)
def test_a_units_values_are_means_over_its_requests(
    asked: tuple[Asked, ...], errors: float, cost: float | None, slow: float | None
) -> None:
    one = unit(1, canary=True, asked=asked)

    assert [values(metric, one, LIMITS) for metric in ALL] == [errors, cost, slow]


@pytest.mark.parametrize(
    ("worse", "metric"),
    [
        (replace(FINE, status=503, cost_nanousd=None), Metric.ERRORS),
        (replace(FINE, total_ms=500.0), Metric.LATENCY),
    ],
)
def test_harm_is_named_with_its_figures(worse: Asked, metric: Metric) -> None:
    found = judged(known(arms(3000, worse, every=4)))

    told = found.figures["metrics"]
    assert found.kind is Kind.HARM
    assert told[metric]["low"] > told[metric]["tolerance"] and told[metric]["p_harm"] < 0.0125
    assert [name for name, one in told.items() if one["p_harm"] < 0.0125] == [metric]
    assert "25." in found.words or "24." in found.words


def test_a_dearer_draft_is_harm_and_a_cheaper_one_is_proved() -> None:
    dear, cheap = (replace(FINE, cost_nanousd=cost) for cost in (600, 200))

    assert judged(known(arms(2000, dear, every=1))).kind is Kind.HARM
    better = judged(known(arms(2000, cheap, every=1)))
    assert (better.kind, better.words[:20]) == (Kind.PROVED, "The draft is better:")


def test_an_equal_draft_is_proved_once_enough_units_have_come() -> None:
    units = arms(2500, FINE)

    assert judged(known(units)).kind is Kind.PROVED
    patient = judged(known(units, replace(LIMITS, min_units=10**6)))
    assert patient.kind is Kind.WAITING and "1000000 units" in patient.words
    assert judged(known(units[:20])).kind is Kind.WAITING


def test_a_metric_without_proof_holds_a_promotion_up_and_feedback_is_one() -> None:
    limits = replace(LIMITS, tolerance={**ALL, Metric.FEEDBACK: 0.1})
    evidence = known(arms(2500, FINE), limits)
    silent = judged(evidence)

    evidence.take_feedback([(one, 0.8) for one in arms(2500, FINE)])

    assert silent.kind is Kind.WAITING and "Nothing is known yet of: bad feedback" in silent.words
    assert judged(evidence).kind is Kind.PROVED


def test_bad_feedback_alone_is_harm() -> None:
    evidence = known(arms(1500, FINE), replace(LIMITS, tolerance={Metric.FEEDBACK: 0.05}))

    evidence.take_feedback([(one, 0.4 if one.canary else 0.7) for one in arms(1500, FINE)])

    assert judged(evidence).kind is Kind.HARM


def test_an_arm_that_does_not_come_back_is_a_verdict_of_its_own() -> None:
    lost = [one for number, one in enumerate(arms(3000, FINE, share=0.2)) if not one.canary or number % 3 == 0]
    doubled = [one for number, one in enumerate(arms(3000, FINE, share=0.2)) if one.canary or number % 3 == 0]

    assert judged(known(lost)).kind is Kind.MISSING
    assert judged(known(doubled)).kind is Kind.BROKEN


def test_low_traffic_and_an_empty_arm_are_told_as_such() -> None:
    empty = judged(known([unit(number, canary=False, share=0.01) for number in range(60)]))

    assert "No unit is counted yet" in judged(known([])).words
    assert "No unit is in the canary arm" in empty.words and "unit = 'request'" in empty.words


def test_evidence_is_the_same_after_it_was_stored() -> None:
    limits = replace(LIMITS, tolerance={**ALL, Metric.FEEDBACK: 0.1})
    units = arms(400, replace(FINE, status=500), share=0.3)
    evidence = known(units[:200], limits)
    evidence.take_feedback([(one, 0.5) for one in units[:50]])
    evidence.upto = 77.5

    again = Evidence.unpack(limits, evidence.pack())
    for one in (evidence, again):
        one.take(units[200:])

    assert again.pack() == evidence.pack()
    assert judged(again) == judged(evidence)
    assert again.sums[Arm.CANARY].units == sum(one.canary for one in units)


@pytest.mark.parametrize(
    ("mode", "share", "limits", "field"),
    [
        (Mode.CANARY, 0.0, LIMITS, "share"),
        (Mode.CANARY, 1.0, LIMITS, "share"),
        (Mode.CANARY, 0.1, replace(LIMITS, alpha=0.0), "alpha"),
        (Mode.CANARY, 0.1, replace(LIMITS, tolerance={Metric.COST: -0.1}), "tolerance.cost"),
        (Mode.CANARY, 0.1, replace(LIMITS, longest_s=1e9), "longest_s"),
        (Mode.SHADOW, 1.1, LIMITS, "share"),
    ],
)
def test_what_cannot_be_so_is_named(mode: Mode, share: float, limits: Limits, field: str) -> None:
    fault = field_fault(mode, share, limits)

    assert fault is not None and fault[0] == field
    assert field_fault(Mode.SHADOW, 1.0, LIMITS) is None


def test_limits_are_the_same_after_they_were_stored() -> None:
    limits = replace(LIMITS, left_out={Metric.FEEDBACK: "nobody"})

    assert Limits.from_json(limits.to_json()) == limits
