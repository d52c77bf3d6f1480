"""Fitted Q, backwards from the last round: what answers are worth, then what each call opens up, from real plays.

The return of a play is what the answer truly scored and what the calls truly cost, never a maximum of estimates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from routers.cascade_value import (
    ACTION_FEATURES,
    ANSWER_FEATURES,
    CascadeValue,
    Network,
    States,
    action_features,
    answer_features,
    best_in_hand,
    logit,
    no_network,
)
from routers.training.cascade.board import Board, Plays, Rules, play
from routers.training.cascade.networks import Task, train_network
from routers.training.dataset import Doubles, Floats, Indices

_CHUNK = 8_192
_ANYONE = 0.25


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is played: per query so many weights of cost, and per state so many calls are tried.

    Of the calls those of higher worth are tried more often; `noise` (in units of score) blurs which that is.
    """

    max_rounds: int = 3
    weights: int = 4
    tries: int = 2
    noise: float = 0.08
    hidden: int = 24
    epochs: int = 30
    most_states: int = 20_000


def learn(
    board: Board, plan: Plan, seed: int, progress: Callable[[float, str], None] = lambda share, what: None
) -> CascadeValue:
    """Networks for answers and for each round's calls; the same arguments give the same networks."""
    rng = np.random.default_rng(seed)
    bounds = weight_bounds(board.paid_usd)
    progress(0.0, "what answers are worth")
    value = CascadeValue(no_network(ANSWER_FEATURES), (), ())
    value = replace(value, answers=_learn_answers(board, bounds, plan, rng, seed))
    gains: list[Network] = [no_network(ACTION_FEATURES)] * plan.max_rounds
    trust = [0.0] * plan.max_rounds
    for made in reversed(range(plan.max_rounds)):
        progress((plan.max_rounds - made) / (plan.max_rounds + 1), f"what call {made + 1} opens up")
        value = replace(value, gains=tuple(gains), trust=tuple(trust))
        gains[made] = _learn_gain(value, board, bounds, plan, made, rng, seed + made + 1)
        trust[made] = 1.0
    return replace(value, gains=tuple(gains), trust=tuple(trust))


def weight_bounds(paid_usd: Doubles) -> tuple[float, float]:
    """The weights of cost (score per US dollar) between which choices differ: nearly free calls to nearly worthless."""
    means = np.nanmean(paid_usd, axis=0)
    means = means[means > 0]
    if not len(means):
        return 1.0, 1.0
    return 0.003 / float(means.max()), 2.0 / float(means.min())


def weight_grid(paid_usd: Doubles, count: int) -> Doubles:
    """`count` weights of cost, evenly spaced in their logarithm."""
    low, high = weight_bounds(paid_usd)
    return np.geomspace(low, high, count)


def _situations(
    board: Board, bounds: tuple[float, float], plan: Plan, rng: np.random.Generator
) -> tuple[Indices, Doubles]:
    """Queries, each with several weights of cost drawn evenly in their logarithm."""
    count = max(min(plan.weights * len(board), plan.most_states), len(board))
    queries = np.resize(rng.permutation(len(board)), count)
    return queries, np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]), count))


def _wander(
    value: CascadeValue,
    board: Board,
    queries: Indices,
    states: States,
    calls: int,
    noise: float,
    rng: np.random.Generator,
) -> States:
    """Make `calls` calls in every row, mostly sensible ones."""
    for _ in range(calls):
        states = board.call(states, queries, _tried(value, states, noise, rng))
    return states


def _tried(value: CascadeValue, states: States, noise: float, rng: np.random.Generator) -> Indices:
    """One open model a row: the best but for noise on its score and, three times as much, on the log of its price.

    In a quarter of the rows any, since what is good at the end may look bad at first.
    """
    worth = np.where(states.open, value.scores(states), -np.inf)
    priced = states.price * np.exp(rng.normal(0, 3 * noise, states.price.shape))
    blurred = worth - priced + rng.gumbel(0, noise, worth.shape)
    anyone = np.where(states.open, rng.random(worth.shape), -np.inf)
    pick: Indices = np.where(rng.random((len(worth), 1)) < _ANYONE, anyone, blurred).argmax(axis=1)
    return pick


def _learn_answers(
    board: Board, bounds: tuple[float, float], plan: Plan, rng: np.random.Generator, seed: int
) -> Network:
    """The correction of the forecasts by what was seen, for answers in hand and for those still to come."""
    blank = CascadeValue(no_network(ANSWER_FEATURES), (), ())
    queries, weights = _situations(board, bounds, plan, rng)
    open_models = (~np.isnan(board.score)).sum(axis=1)
    rows: list[tuple[Floats, Floats, Floats, Indices]] = []
    for at in range(0, len(queries), _CHUNK):
        part, states = queries[at : at + _CHUNK], board.begin(queries[at : at + _CHUNK], weights[at : at + _CHUNK])
        for calls in range(1, plan.max_rounds + 1):
            able = np.flatnonzero(open_models[part] >= calls)
            part, states = part[able], _rows(states, able)
            if not len(part):
                break
            states = board.call(states, part, _tried(blank, states, plan.noise, rng))
            rows.append(_answer_rows(board, states, part, plan, rng))
    features, guess, target, group = (np.concatenate(column) for column in zip(*rows, strict=True))
    task = Task(features, guess, target, group, "bce")
    return train_network(task, hidden=plan.hidden, epochs=plan.epochs, seed=seed)


def _answer_rows(
    board: Board, states: States, queries: Indices, plan: Plan, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats, Indices]:
    """Of each state all answers in hand and as many of the others, chosen at random."""
    features = answer_features(states)
    known = ~np.isnan(board.score[queries])
    others = states.open & (rng.random(states.open.shape) < states.called.sum(1, keepdims=True) / states.open.shape[1])
    row, model = np.nonzero((states.called | others) & known)
    return (
        np.concatenate((features[row, model], states.context[row]), axis=1),
        logit(states.quality)[row, model],
        board.score[queries[row], model],
        queries[row],
    )


def _learn_gain(
    value: CascadeValue,
    board: Board,
    bounds: tuple[float, float],
    plan: Plan,
    made: int,
    rng: np.random.Generator,
    seed: int,
) -> Network:
    """What a call after `made` calls brings beyond the better of two expected scores less its forecast price.

    Only the difference to giving that better answer is learned: where the plays end with it, it is exactly 0, which
    takes nearly all noise out.
    """
    queries, weights = _situations(board, bounds, plan, rng)
    open_models = (~np.isnan(board.score)).sum(axis=1)
    able = open_models[queries] > made
    queries, weights = queries[able], weights[able]
    if not len(queries):
        return no_network(ACTION_FEATURES)
    parts = [
        _gain_rows(value, board, queries[at : at + _CHUNK], weights[at : at + _CHUNK], plan, made, rng)
        for at in range(0, len(queries), _CHUNK)
    ]
    features, target, group = (np.concatenate(column) for column in zip(*parts, strict=True))
    task = Task(features, np.zeros_like(target), target, group, "mse")
    return train_network(task, hidden=plan.hidden, epochs=plan.epochs, seed=seed)


def _gain_rows(
    value: CascadeValue,
    board: Board,
    queries: Indices,
    weights: Doubles,
    plan: Plan,
    made: int,
    rng: np.random.Generator,
) -> tuple[Floats, Floats, Indices]:
    states = _wander(value, board, queries, board.begin(queries, weights), made, plan.noise, rng)
    scores = value.scores(states)
    best = best_in_hand(states, scores)
    features = action_features(states, scores, best)
    rows = np.arange(len(queries))
    found = []
    for _ in range(plan.tries):
        model = _tried(value, states, plan.noise, rng)
        after = board.call(states, queries, model)
        played = play(value, board, queries, weights, after, Rules(plan.max_rounds))
        keeps = (scores[rows, model] >= best) | (made == 0)
        kept = np.where(keeps, model, np.where(states.called, scores, -1).argmax(axis=1))
        gained = played.score - board.score[queries, kept]
        cost = played.paid_usd + board.paid_usd[queries, model] - board.forecast_usd[queries, model]
        target = np.clip(gained - weights * cost, -2, 2)
        inputs = np.concatenate((features[rows, model], states.context), axis=1)
        found.append((inputs, target.astype(np.float32), queries))
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))  # type: ignore[return-value]


def _rows(states: States, rows: Indices) -> States:
    return States(*(getattr(states, name)[rows] for name in States.__slots__))


def plays(value: CascadeValue, board: Board, weight: float, rules: Rules) -> Plays:
    """All queries of a board played from the beginning under one weight of cost."""
    queries = np.arange(len(board))
    weights = np.full(len(board), weight)
    return play(value, board, queries, weights, board.begin(queries, weights), rules)
