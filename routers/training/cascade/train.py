"""Trains a cascade: base forecasts out of fold, networks by plays, and how many rounds pay, by cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from routers.cascade_learned import LearnedCascade, Projection, projection_of
from routers.cascade_policy import MAX_ROUNDS
from routers.cascade_value import CascadeValue
from routers.learned import LearnedRouter, Progress, silent
from routers.training.cascade.board import Board, Rules
from routers.training.cascade.learn import Plan, learn, plays, weight_grid
from routers.training.cascade.prepare import board_of, out_of_fold
from routers.training.dataset import Dataset, Doubles, Indices
from routers.training.metrics import aiq

FOLDS = 5
_WEIGHTS = 16
# Score that another call must promise beyond its price, and how far what it opens up is believed.
MARGINS = (0.0, 0.02, 0.04, 0.08)
TRUSTS = (0.0, 1.0)
# An arm is taken for its mean gain over one call less so many standard errors: eight are tried, and the best of eight
# was found 1 to 2.8 ahead on real data in splits whose test side showed nothing.
_DOUBT = 3.0


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to use what was learned; `rounds` 1 and `trust` 0 is one call by the base router's forecasts."""

    rounds: int
    trust: float
    margin: float

    def value(self, learned: CascadeValue) -> CascadeValue:
        """The networks, believed so far."""
        return replace(learned, trust=(self.trust,) * len(learned.gains))


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A base router fitted on all of the training queries, and these as a simulator by forecasts made out of fold."""

    router: LearnedRouter
    projection: Projection
    board: Board

    def board_of(self, data: Dataset) -> Board:
        """The simulator of other queries."""
        return board_of(data, self.router.predict(data.inputs, data.models), self.projection)


def train_cascade(
    base: type[LearnedRouter],
    train: Dataset,
    validation: Dataset | None,
    seed: int,
    settings: dict[str, Any],
    progress: Progress,
) -> tuple[LearnedRouter, LearnedCascade, dict[str, Any]]:
    """The base router fitted on all of `train`, the policy, and what was measured on the way.

    `validation` is for the base router; what the policy needs is cross-validated on `train`.
    """
    base_settings, folds = settings.pop("base_settings", None), int(settings.pop("folds", FOLDS))
    plan = _plan(settings)
    ready = prepare(
        base,
        train,
        validation,
        seed,
        folds=folds,
        settings=base_settings,
        progress=lambda share, what: progress(0.5 * share, what),
    )
    progress(0.5, "how many rounds pay")
    arm, metrics = best_arm(ready.board, halves(train.groups, seed), plan, seed)
    value = learn(ready.board, plan, seed, lambda share, what: progress(0.8 + 0.2 * share, what))
    return ready.router, LearnedCascade(arm.value(value), ready.projection, arm.rounds, arm.margin), metrics


def prepare(
    base: type[LearnedRouter],
    train: Dataset,
    validation: Dataset | None,
    seed: int,
    *,
    folds: int = FOLDS,
    settings: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Prepared:
    """Fit the base router once for every fold and once on everything."""
    told = out_of_fold(
        base,
        train,
        folds=max(2, min(folds, len(np.unique(train.groups)))),
        seed=seed,
        settings=settings,
        progress=lambda share, what: progress(0.8 * share, what),
    )
    progress(0.8, f"the {base.kind} router on all queries")
    router = base.fit(train, validation=validation, seed=seed, settings=settings)
    projection = projection_of(train.inputs.embeddings)
    return Prepared(router, projection, board_of(train, told, projection).fairly_priced())


def _plan(settings: Mapping[str, Any]) -> Plan:
    known = {one.name for one in fields(Plan)}
    if wrong := sorted(set(settings) - known):
        raise ValueError(
            f"kind 'cascade' has no setting '{wrong[0]}' (known: base, base_settings, folds,"
            f" {', '.join(sorted(known))})"
        )
    plan = Plan(**settings)
    if not 1 <= plan.max_rounds <= MAX_ROUNDS:
        raise ValueError(f"max_rounds = {plan.max_rounds}: 1 to {MAX_ROUNDS} rounds are possible")
    return plan


def halves(groups: Indices, seed: int) -> tuple[Indices, Indices]:
    """Rows in two parts; a question's rows are never divided."""
    names, place = np.unique(groups, return_inverse=True)
    side = np.random.default_rng(seed).permutation(len(names))[place] % 2
    return np.flatnonzero(side == 0), np.flatnonzero(side == 1)


def best_arm(board: Board, parts: tuple[Indices, Indices], plan: Plan, seed: int) -> tuple[Arm, dict[str, Any]]:
    """The arm whose gain in mean utility over one call is surest, each half judged by what the other one taught.

    One call by the base's forecasts is what all others must beat, in AIQ over log cost too: rounds that don't surely
    pay are not used.
    """
    one_call = Arm(1, 0.0, 0.0)
    arms = [one_call, *(Arm(plan.max_rounds, trust, margin) for trust in TRUSTS for margin in MARGINS)]
    weights = weight_grid(board.paid_usd, _WEIGHTS)
    curves: list[tuple[Doubles, Doubles]] = []
    for taught, judged in (parts, parts[::-1]):
        if not len(taught) or not len(judged):
            return one_call, {}
        learned = learn(board.rows(taught), plan, seed)
        curves.append(_curves(arms, learned, board.rows(judged), weights))
    score, paid = (np.concatenate(part, axis=2) for part in zip(*curves, strict=True))
    gains = _utility(score, paid, weights)
    gains = gains - gains[0]
    areas = _areas(score, paid, board)
    means, errors = gains.mean(axis=1), gains.std(axis=1) / gains.shape[1] ** 0.5
    sure = np.where(areas >= areas[0], means - _DOUBT * errors, -np.inf)
    best = int(np.argmax(sure[1:])) + 1
    arm = arms[best] if sure[best] > 0 else one_call
    told = {
        "queries_judged": gains.shape[1],
        "rounds": arm.rounds,
        "trust": arm.trust,
        "margin": arm.margin,
        "gain_over_one_call": round(float(means[best]), 6),
        "standard_error": round(float(errors[best]), 6),
        "aiq_over_one_call": round(float(areas[best] - areas[0]), 6),
    }
    return arm, told


def _curves(arms: Sequence[Arm], learned: CascadeValue, board: Board, weights: Doubles) -> tuple[Doubles, Doubles]:
    """Score and cost of each arm at each weight for each query, [A, L, Q] both."""
    played = [
        [plays(arm.value(learned), board, float(weight), Rules(arm.rounds, arm.margin)) for weight in weights]
        for arm in arms
    ]
    score = np.array([[one.score for one in row] for row in played], dtype=np.float64)
    return score, np.array([[one.paid_usd for one in row] for row in played])


def _utility(score: Doubles, paid: Doubles, weights: Doubles) -> Doubles:
    """Mean over the weights of score less weighted cost, [A, Q]; bounded, so that no weight outvotes the rest."""
    return np.asarray((score - np.minimum(weights[:, None] * paid, 1)).mean(axis=1))


def _areas(score: Doubles, paid: Doubles, board: Board) -> Doubles:
    """AIQ over log cost of each arm, [A]."""
    means = board.paid_usd.mean(axis=0)
    low, high = np.full(len(score), means.min()), np.full(len(score), means.max())
    return aiq(paid.mean(axis=2), score.mean(axis=2), low, high)


def utilities(arm: Arm, learned: CascadeValue, board: Board, weights: Doubles) -> Doubles:
    """Mean utility over the weights of one arm, [Q]."""
    return np.asarray(_utility(*_curves([arm], learned, board, weights), weights)[0])
