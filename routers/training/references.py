"""The routers that every learned one is measured against: single models, chance, and two that know the answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from routers.training.choices import Bench, Taken, card_cost, choose_all, mean_of, prompt_tokens, taken, true_cost
from routers.training.dataset import Dataset, Doubles, Indices

BEST_SINGLE = "best single"
BEST_LABELLED = "best single with labels"
# These know what no router can know; they bound the others and must not be compared as equals.
ORACLE = "oracle (leaky)"
TRUE_TASK = "true task label (leaky)"
BEST_IN_HINDSIGHT = "best single in hindsight (leaky)"
# So many labels of a new model weigh as much as what is known of the others.
_SHRINKAGE = 8.0
LEAKY = frozenset({ORACLE, TRUE_TASK, BEST_IN_HINDSIGHT})


def references(train: Dataset, bench: Bench, labelled: Dataset | None = None) -> dict[str, Taken]:
    """Every reference by name, best single first.

    Single models are chosen on `train` among those that it knows, for each weight of cost anew. Where it knows none of
    the bench's models, the cheapest and dearest follow from the cards' prices, and the best single is the dearest: the
    honest choice of one who has no outcomes. With `labelled` there is a second best single, for which models that
    `train` lacks take part with the mean of their labels, shrunk towards that of the known models.
    """
    score, cost = training_means(train, bench)
    makers: dict[str, Callable[[], Taken]] = {
        BEST_SINGLE: lambda: _single(bench, score, cost),
        "cheapest": lambda: _fixed(bench, int(np.nanargmin(cost))),
        "dearest": lambda: _fixed(bench, int(np.nanargmax(cost))),
        "random": lambda: _random(bench),
        TRUE_TASK: lambda: _true_task(train, bench, score, cost),
        BEST_IN_HINDSIGHT: lambda: _single(bench, mean_of(bench.score), mean_of(bench.cost)),
        ORACLE: lambda: taken(bench, choose_all(bench.score, _finite(bench.cost), bench.weights, bench.observed)),
    }
    if labelled is not None and len(labelled):
        means = _means_with_labels(train, bench, labelled)
        makers[BEST_LABELLED] = lambda: _single(bench, *means)
    return {name: make() for name, make in makers.items()}


def training_means(train: Dataset, bench: Bench) -> tuple[Doubles, Doubles]:
    """Mean score and cost [M] of the bench's models in other data, NaN for those that it does not know."""
    column = {card.id: place for place, card in enumerate(train.models)}
    places = [column.get(card.id, -1) for card in bench.test.models]
    known = np.array(places) >= 0
    score = np.where(known, mean_of(train.score.astype(np.float64))[places], np.nan)
    cost = np.where(
        known & np.isfinite(score), mean_of(np.where(train.observed, true_cost(train), np.nan))[places], np.nan
    )
    if np.isfinite(score).any():
        return score, cost
    tokens = np.broadcast_to(prompt_tokens(bench.test)[:, None], bench.score.shape)
    cost = card_cost(bench.test.models, tokens, np.full(tokens.shape, np.nan, dtype=np.float32)).mean(axis=0)
    return np.where(cost == cost.max(), 1.0, 0.0), cost


def _means_with_labels(train: Dataset, bench: Bench, labelled: Dataset) -> tuple[Doubles, Doubles]:
    column = {
        card.id
        for card, seen in zip(train.models, np.asarray(train.observed.any(axis=0)).tolist(), strict=True)
        if seen
    }
    few = {card.id: place for place, card in enumerate(labelled.models)}
    score, cost = (array.copy() for array in training_means(train, bench))
    prior = float(np.nanmean(train.score))
    prices = true_cost(labelled)
    for place, card in enumerate(bench.test.models):
        if card.id in column or card.id not in few:
            continue
        known = labelled.observed[:, few[card.id]]
        own, count = labelled.score[known, few[card.id]].astype(np.float64), int(known.sum())
        if count:
            score[place] = (own.sum() + _SHRINKAGE * prior) / (count + _SHRINKAGE)
            cost[place] = prices[known, few[card.id]].mean()
    return score, cost


def _single(bench: Bench, score: Doubles, cost: Doubles) -> Taken:
    """For each weight the one model with the best mean."""
    utility = score[None] - bench.weights[:, None] * cost[None]
    best = np.where(np.isnan(utility), -np.inf, utility).argmax(axis=1)
    return taken(bench, _observed_or_next(bench, best, score))


def _fixed(bench: Bench, column: int) -> Taken:
    return taken(bench, _observed_or_next(bench, np.full(len(bench.weights), column), mean_of(bench.score)))


def _observed_or_next(bench: Bench, columns: Indices, score: Doubles) -> Indices:
    """A column for each weight [L] as choices [L, Q]; where it was not observed, the best that was."""
    places = np.repeat(columns[:, None], len(bench.score), axis=1)
    if bench.observed.all():
        return places
    instead = np.where(bench.observed, np.nan_to_num(score, nan=-1.0), -np.inf).argmax(axis=1)
    return np.where(bench.observed[np.arange(len(instead)), places], places, instead)


def _random(bench: Bench) -> Taken:
    """What a model drawn evenly is worth in expectation."""
    closing = taken(bench, np.zeros((0, len(bench.score)), dtype=np.intp))
    score, cost = mean_of(bench.score.T), mean_of(bench.cost.T)
    rows = len(bench.weights)
    return Taken(
        np.concatenate([np.tile(score, (rows, 1)), closing.score]),
        np.concatenate([np.tile(cost, (rows, 1)), closing.cost]),
    )


def _true_task(train: Dataset, bench: Bench, score: Doubles, cost: Doubles) -> Taken:
    """The best model of each task by its label; of all, where the task or a model's outcomes in it are unknown."""
    quality = np.tile(score, (len(bench.score), 1))
    price = np.tile(cost, (len(bench.score), 1))
    tasks, ours = np.array(train.tasks, dtype=object), np.array(bench.test.tasks, dtype=object)
    for name in set(train.tasks) & set(bench.test.tasks):
        of_task, task_cost = training_means(train.rows(np.flatnonzero(tasks == name)), bench)
        rows, known = np.flatnonzero(ours == name), np.isfinite(of_task)
        quality[np.ix_(rows, known)] = of_task[known]
        price[np.ix_(rows, known)] = task_cost[known]
    allowed = bench.observed & np.isfinite(quality)
    blind = ~allowed.any(axis=1)
    allowed[blind] = bench.observed[blind]
    return taken(bench, choose_all(quality, _finite(price), bench.weights, allowed))


def _finite(cost: Doubles) -> Doubles:
    """Cost with what is unknown as the dearest; such pairs are not allowed anyway."""
    return np.nan_to_num(cost, nan=float(np.nanmax(cost)))
