"""From outcomes to an artifact: how the kinds of `routers.folded` are tuned, calibrated and put together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from routers.artifact import Array, Artifact
from routers.card_prior import CardPrior
from routers.decision import FEATURES_VERSION
from routers.inputs import Floats
from routers.learned import Progress
from routers.linear import Reals
from routers.roster import Roster
from routers.token_forecasts import TokenForecasts
from routers.training.calibrate import half_width, hardness_weights, own_hardness
from routers.training.checkpoint import Checkpoint
from routers.training.dataset import Dataset, Doubles, Indices
from routers.training.gating import rewards
from routers.training.lesson import Lesson, lessons

if TYPE_CHECKING:
    from routers.folded import FoldedRouter, Settings

_FOLDS = 3


def fold(
    kind: type[FoldedRouter],
    train: Dataset,
    validation: Dataset | None,
    seed: int,
    settings: Settings,
    progress: Progress,
) -> Artifact:
    """Tune on unseen queries, calibrate there, learn from all of them, and fold; raises `ValueError`."""
    settings = dict(settings)
    folder, also = settings.pop("checkpoint", None), "" if validation is None else validation.sha256()
    unknown = sorted(set(settings) - set(kind.GRID))
    if unknown:
        known = ", ".join(kind.GRID) or "none"
        raise ValueError(f"kind '{kind.kind}' has no setting '{unknown[0]}' (known: {known})")
    kept = Checkpoint.of(folder, train, {"kind": kind.kind, "validation": also, **settings}, seed)
    fitted, unseen, whole = lessons(train, validation, seed)
    chosen = kind.tune(fitted, unseen, settings, seed, progress, kept)
    progress(0.8, "calibrating on unseen queries")
    scores, lengths, weights = _foretold(kind, whole, chosen, seed)
    tokens = TokenForecasts.fit(fitted.inputs, fitted.log_tokens, unseen.inputs, unseen.log_tokens)
    if lengths is not None:
        tokens = tokens.calibrated(lengths, whole.log_tokens)
    progress(0.9, "learning from all queries")
    arrays = kind.learn(whole, chosen, seed)
    usual = kind.usual(arrays, whole)
    trust = kept.stage("trust", lambda: one.arrays() if (one := kind.trusted(whole, chosen, seed)) else {})
    hardness = replace(own_hardness(kind.told(arrays, whole.inputs)[0], usual), **weights).arrays() if weights else {}
    found = _roster(whole, usual, half_width(scores, whole.score), tokens)
    progress(1.0, "done")
    return Artifact(
        kind=kind.kind,
        embedder=train.embedder if kind.needs_embedding else "",
        dimensions=whole.inputs.embeddings.shape[1] if kind.needs_embedding else 0,
        features_version=FEATURES_VERSION,
        arrays={
            **arrays,
            **tokens.arrays(),
            **found.arrays(),
            **trust,
            **hardness,
            "scores_usual": np.asarray(usual, dtype=np.float32),
        },
        facts={"models": list(found.ids), "words": list(found.prior.words), "settings": dict(chosen)},
        data={"name": train.name, "sha256": train.sha256(), "queries": len(whole), "models": len(whole.cards)},
        metrics={"brier": brier(scores, whole.score)},
        seed=seed,
    )


def grid_search(
    kind: type[FoldedRouter], lesson: Lesson, settings: Settings, seed: int, progress: Progress, kept: Checkpoint
) -> Settings:
    """The combination with the best forecasts of folds that it was not learned from; the first of equals.

    What was tried before an interruption is `kept` and not tried again.
    """
    tried = list(_combinations({**kind.GRID, **{name: (value,) for name, value in settings.items()}}))
    if len(tried) == 1:
        return tried[0]
    losses = []
    for done, one in enumerate(tried):
        progress(0.8 * done / len(tried), f"trying {', '.join(f'{name} {value}' for name, value in one.items())}")
        found = kept.stage(f"tried-{done}", partial(_tried, kind, lesson, one, seed))
        losses.append(float(found["loss"]))
    return tried[int(np.argmin(losses))]


def _tried(kind: type[FoldedRouter], lesson: Lesson, settings: Settings, seed: int) -> dict[str, Array]:
    told = np.empty(lesson.score.shape)
    for arrays, _, fold in _learned_apart(kind, lesson, settings, seed):
        told[fold] = kind.told(arrays, lesson.inputs.rows(fold))[0]
    return {"loss": np.array(loss(np.clip(told, 0, 1), lesson))}


def _foretold(
    kind: type[FoldedRouter], lesson: Lesson, settings: Settings, seed: int
) -> tuple[Floats, Floats | None, dict[str, float]]:
    """Of all queries, by what was learned without them: scores made to mean what they say, and lengths, [Q, M] both,
    these None where the kind tells none; and the weights of `Hardness` that were fitted for that, none for a kind that
    is taken at its word."""
    told, lengths = np.empty((2, *lesson.score.shape), dtype=np.float32)
    own, given = [], True
    for arrays, part, fold in _learned_apart(kind, lesson, settings, seed):
        own.append((own_hardness(kind.told(arrays, part.inputs)[0], kind.usual(arrays, part)), fold))
        told[fold], length = kind.told(arrays, lesson.inputs.rows(fold))
        if given := length is not None:
            lengths[fold] = length
    weights = hardness_weights(own, told, lesson.score) if kind.mended else {}
    if weights:
        for one, fold in own:
            told[fold] = replace(one, **weights).mended(told[fold])
    return np.clip(told, 0, 1), lengths if given else None, weights


def _learned_apart(
    kind: type[FoldedRouter], lesson: Lesson, settings: Settings, seed: int
) -> Iterator[tuple[dict[str, Array], Lesson, Indices]]:
    """What is learned without each fold of the rows, from which part, and the fold."""
    for rest, fold in _folds(lesson, seed):
        part = lesson.rows(rest)
        yield kind.learn(part, settings, seed), part, fold


def loss(told: Reals, lesson: Lesson) -> float:
    """How poor the choices are that forecasts [Q, M] lead to: the mean reward lost over weights of cost.

    Where choices can't be judged, it is the mean square error of the forecasts. (The best of many noisy forecasts is
    overrated, so the least square error tunes to too little smoothing.)
    """
    return -float(np.nanmean(rewards(told, lesson)))


def _folds(lesson: Lesson, seed: int) -> list[tuple[Indices, Indices]]:
    """Rows to learn from and rows to forecast; a question is in one fold only. The same rows where there is but one."""
    _, question = np.unique(lesson.groups, return_inverse=True)
    count = min(_FOLDS, int(question.max()) + 1)
    everything = np.arange(len(lesson), dtype=np.intp)
    if count < 2:
        return [(everything, everything)]
    fold = (np.random.default_rng(seed).permutation(int(question.max()) + 1) % count)[question]
    return [(np.nonzero(fold != one)[0], np.nonzero(fold == one)[0]) for one in range(count)]


def brier(told: Reals, score: Floats) -> float:
    """Mean square distance of forecasts from observed scores; 0 where nothing was observed."""
    seen = ~np.isnan(score)
    return float(np.mean((told[seen].astype(np.float64) - score[seen]) ** 2)) if seen.any() else 0.0


def _combinations(grid: Mapping[str, Any]) -> Iterator[Settings]:
    for values in product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _roster(lesson: Lesson, usual: Doubles, doubt: float, tokens: TokenForecasts) -> Roster:
    labels = (~np.isnan(lesson.score)).sum(axis=0)
    seconds = [column[~np.isnan(column)] for column in lesson.latency_s.T]
    log_ms = [math.log(max(float(np.median(one)) * 1000, 1.0)) if len(one) else math.nan for one in seconds]
    doubts = np.full(len(usual), doubt)
    table = np.column_stack([usual, doubts, labels, tokens.usual, tokens.high, log_ms, tokens.mean]).astype(np.float64)
    width = len(lesson.cards)
    return Roster([card.id for card in lesson.cards], table, np.empty((0, width)), CardPrior.fit(lesson.cards, usual))
