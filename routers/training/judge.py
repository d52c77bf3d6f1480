"""Fits router kinds on one split of data and judges them on its test side, beside the references."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from routers.find import kinds, router_class
from routers.learned import LearnedRouter, Progress, silent
from routers.training.caution import Caution, taken_with_caution
from routers.training.choices import Bench, Taken, bench_of, taken_by
from routers.training.dataset import Dataset, Doubles
from routers.training.metrics import (
    brier,
    calibration_curve,
    conformal_coverage,
    decision_ms,
    expected_calibration_error,
    interval_coverage,
    token_coverage,
)
from routers.training.references import references

# Rows of routers whose policy abstains.
CAUTIOUS = ", abstaining"
# Told what is being done: a router's name and the share of it.
Watch = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One router on one test side: what it chose, and how its forecasts fare.

    `figures` are forecast qualities, milliseconds a decision and seconds of training; `calibration` is what
    `metrics.calibration_curve` gives, None for references.
    """

    taken: Taken
    figures: Mapping[str, float] = field(default_factory=dict)
    calibration: tuple[Doubles, Doubles, Doubles] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """All routers judged on one test side; `refused` says why a kind could not be fitted."""

    name: str
    bench: Bench
    routers: Mapping[str, Judged]
    refused: Mapping[str, str] = field(default_factory=dict)


def learned_kinds(wanted: Sequence[str] = ()) -> list[str]:
    """The kinds that learn, those wanted or all but those that pass on another's forecasts.

    `ValueError` names an unknown one or one that learns nothing.
    """
    if wanted:
        for kind in wanted:
            if not issubclass(router_class(kind), LearnedRouter):
                raise ValueError(f"router kind '{kind}' learns nothing from data; kinds that do: {_able()}")
        return list(wanted)
    return [kind for kind in kinds() if _learns(kind) and not getattr(router_class(kind), "wraps", None)]


def fit(
    kind: str,
    train: Dataset,
    validation: Dataset | None,
    seed: int,
    settings: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> LearnedRouter:
    """A fitted router of a kind; `ValueError` says what its data or settings lack."""
    found = router_class(kind)
    if not issubclass(found, LearnedRouter):
        raise ValueError(f"router kind '{kind}' learns nothing from data; kinds that do: {_able()}")
    return found.fit(train, validation=validation, seed=seed, settings=settings, progress=progress)


def fit_all(
    wanted: Sequence[str], train: Dataset, validation: Dataset | None, seed: int, watch: Watch
) -> tuple[dict[str, tuple[LearnedRouter, float]], dict[str, str]]:
    """Every kind fitted, with its seconds; and for those that refuse the data, why."""
    fitted, refused = {}, {}
    for kind in wanted:
        begun = perf_counter()
        try:
            router = fit(kind, train, validation, seed, progress=_told(watch, kind))
        except ValueError as error:
            refused[kind] = str(error)
        else:
            fitted[kind] = (router, perf_counter() - begun)
        watch(kind, 1.0)
    return fitted, refused


def _told(watch: Watch, kind: str) -> Progress:
    return lambda share, _: watch(kind, share)


def judge_round(
    name: str,
    train: Dataset,
    test: Dataset,
    routers: Mapping[str, tuple[LearnedRouter, float]],
    *,
    whole: Dataset | None = None,
    refused: Mapping[str, str] | None = None,
    caution: Caution | None = None,
    labelled: Dataset | None = None,
) -> Round:
    """Judge fitted routers (with their seconds of training) and the references on one test side.

    `train` is where the references choose from; `whole` is where the normalisation of costs comes from. With `caution`
    every router gets a second row, of a policy that abstains; `labelled` is for the references' own use.
    """
    bench = bench_of(test, whole)
    judged = {one: Judged(took) for one, took in references(train, bench, labelled).items()}
    for one, (router, seconds) in routers.items():
        judged[one] = _judge(router, seconds, bench)
        if caution is not None:
            told = router.predict(test.inputs, test.models)
            judged[one + CAUTIOUS] = Judged(taken_with_caution(bench, told, caution))
    return Round(name, bench, judged, dict(refused or {}))


def _judge(router: LearnedRouter, seconds: float, bench: Bench) -> Judged:
    test = bench.test
    told = router.predict(test.inputs, test.models)
    middle, slow = decision_ms(router, test)
    figures = {
        "brier": brier(told.quality, test.score),
        "ece": expected_calibration_error(told.quality, test.score),
        "conformal_coverage": conformal_coverage(told.quality, test.score, test.groups),
        "interval_coverage": interval_coverage(told.quality, told.low, told.high, test.score),
        "token_coverage": token_coverage(told.tokens_high, test.output_tokens),
        "decision_ms": middle,
        "decision_p99_ms": slow,
        "fit_s": seconds,
        "trust": float(np.mean(told.trust)),
    }
    return Judged(taken_by(bench, told), figures, calibration_curve(told.quality, test.score))


def _learns(kind: str) -> bool:
    try:
        return issubclass(router_class(kind), LearnedRouter)
    except ValueError:
        return False


def _able() -> str:
    return ", ".join(kind for kind in kinds() if _learns(kind)) or "none yet"
