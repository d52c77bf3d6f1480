"""From outcomes to an artifact: how the kinds of `routers.folded` are tuned, calibrated and put together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from routers.artifact import Artifact
from routers.card_prior import CardPrior
from routers.decision import FEATURES_VERSION
from routers.inputs import Floats
from routers.learned import Progress
from routers.linear import Reals
from routers.roster import Roster
from routers.token_forecasts import TokenForecasts
from routers.training.dataset import Dataset, Doubles, Indices
from routers.training.lesson import Lesson, lessons

if TYPE_CHECKING:
    from routers.folded import FoldedRouter, Settings

INTERVAL_SHARE = 0.9
# Queries of alike forecasts whose mean score an interval has to cover, and blocks of them for a quantile.
_BLOCK = 25
_BLOCKS = 8
_UNKNOWN_DOUBT = 0.25
_FOLDS = 3
# Of the dearest model's mean cost, in units of score.
_COST_WEIGHTS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


def fold(
    kind: type[FoldedRouter],
    train: Dataset,
    validation: Dataset | None,
    seed: int,
    settings: Settings,
    progress: Progress,
) -> Artifact:
    """Tune on unseen queries, calibrate there, learn from all of them, and fold; raises `ValueError`."""
    unknown = sorted(set(settings) - set(kind.GRID))
    if unknown:
        known = ", ".join(kind.GRID) or "none"
        raise ValueError(f"kind '{kind.kind}' has no setting '{unknown[0]}' (known: {known})")
    fitted, unseen, whole = lessons(train, validation, seed)
    chosen = kind.tune(fitted, unseen, settings, seed, progress)
    progress(0.8, "calibrating on unseen queries")
    told, lengths = kind.told(kind.learn(fitted, chosen, seed), unseen.inputs)
    scores = np.clip(told, 0, 1)
    tokens = TokenForecasts.fit(fitted.inputs, fitted.log_tokens, unseen.inputs, unseen.log_tokens)
    if lengths is not None:
        tokens = tokens.calibrated(lengths, unseen.log_tokens)
    progress(0.9, "learning from all queries")
    arrays = kind.learn(whole, chosen, seed)
    usual = kind.usual(arrays, whole)
    found = _roster(whole, usual, _doubts(scores, unseen.score), tokens)
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
            "scores_usual": np.asarray(usual, dtype=np.float32),
        },
        facts={"models": list(found.ids), "words": list(found.prior.words), "settings": dict(chosen)},
        data={"name": train.name, "sha256": train.sha256(), "queries": len(whole), "models": len(whole.cards)},
        metrics={"brier": brier(scores, unseen.score)},
        seed=seed,
    )


def grid_search(
    kind: type[FoldedRouter], lesson: Lesson, settings: Settings, seed: int, progress: Progress
) -> Settings:
    """The combination with the best forecasts of folds that it was not learned from; the first of equals."""
    tried = list(_combinations({**kind.GRID, **{name: (value,) for name, value in settings.items()}}))
    if len(tried) == 1:
        return tried[0]
    folds = _folds(lesson, seed)
    losses = []
    for done, one in enumerate(tried):
        progress(0.8 * done / len(tried), f"trying {', '.join(f'{name} {value}' for name, value in one.items())}")
        told = np.empty(lesson.score.shape)
        for rest, fold in folds:
            told[fold] = kind.told(kind.learn(lesson.rows(rest), one, seed), lesson.inputs.rows(fold))[0]
        losses.append(loss(np.clip(told, 0, 1), lesson))
    return tried[int(np.argmin(losses))]


def loss(told: Reals, lesson: Lesson) -> float:
    """How poor the choices are that forecasts [Q, M] lead to: the mean reward lost over weights of cost.

    Where some outcomes are not known, choices can't be judged, and it is the mean square error of the forecasts. (The
    best of many noisy forecasts is overrated, so the least square error tunes to too little smoothing.)
    """
    if np.isnan(lesson.score).any():
        return brier(told, lesson.score)
    cost = np.nan_to_num(lesson.cost_usd)
    means: Doubles = cost.mean(axis=0)
    each = np.arange(len(told))
    weights = (0.0, *(np.array(_COST_WEIGHTS) / means.max())) if means.max() > 0 else (0.0,)
    rewards = []
    for weight in weights:
        picks = (told - weight * means).argmax(axis=1)
        rewards.append(lesson.score[each, picks].mean() - weight * cost[each, picks].mean())
    return -float(np.mean(rewards))


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


def _doubts(told: Floats, score: Floats) -> Doubles:
    """Half widths [M] of 90 % intervals of an expected score.

    Single scores are mostly right or wrong, so what an interval can be held to is the mean score of `_BLOCK` queries
    with alike forecasts: the split-conformal quantile of how far such means lay from their forecasts.
    """
    apart = [_blocks(told[:, column], score[:, column]) for column in range(score.shape[1])]
    shared = _quantile(np.concatenate(apart)) if apart else _UNKNOWN_DOUBT
    return np.array([_quantile(own) if len(own) >= _BLOCKS else shared for own in apart])


def _blocks(told: Floats, score: Floats) -> Doubles:
    seen = np.nonzero(~np.isnan(score))[0]
    order = seen[np.argsort(told[seen], kind="stable")]
    rests = (score - told)[order].astype(np.float64)
    count = len(rests) // _BLOCK
    return np.abs([part.mean() for part in np.array_split(rests, count)]) if count else np.empty(0)


def _quantile(distances: Doubles) -> float:
    if not len(distances):
        return _UNKNOWN_DOUBT
    place = math.ceil(INTERVAL_SHARE * (len(distances) + 1)) - 1
    return float(np.sort(distances)[min(place, len(distances) - 1)])


def _roster(lesson: Lesson, usual: Doubles, doubts: Doubles, tokens: TokenForecasts) -> Roster:
    labels = (~np.isnan(lesson.score)).sum(axis=0)
    seconds = [column[~np.isnan(column)] for column in lesson.latency_s.T]
    log_ms = [math.log(max(float(np.median(one)) * 1000, 1.0)) if len(one) else math.nan for one in seconds]
    table = np.column_stack([usual, doubts, labels, tokens.usual, tokens.high, log_ms]).astype(np.float64)
    width = len(lesson.cards)
    return Roster([card.id for card in lesson.cards], table, np.empty((0, width)), CardPrior.fit(lesson.cards, usual))
