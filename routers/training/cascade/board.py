"""Outcomes as a simulator: what a cascade would see, pay and score, since every answer is known beforehand."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from routers.cascade_value import HINTS, CascadeValue, States, best_in_hand
from routers.training.dataset import Doubles, Floats, Indices


@dataclass(frozen=True, slots=True, eq=False)
class Board:
    """Arrays of shape [Q, M] unless said; NaN in `score` is a model that can't be called for that query.

    Told beforehand: `quality`, `forecast_usd`, `context` [Q, CONTEXT]. Seen only after the call: `length` (signal of
    the answer's length), `hints` [Q, M, HINTS]. Never seen: `score`, and `paid_usd` until it is paid.
    """

    quality: Floats
    forecast_usd: Doubles
    context: Floats
    length: Floats
    hints: Floats
    score: Floats
    paid_usd: Doubles

    def __len__(self) -> int:
        return len(self.quality)

    def rows(self, chosen: Indices) -> Board:
        """Some of the queries, in the order given."""
        return Board(*(getattr(self, name)[chosen] for name in Board.__slots__))

    def with_hints(self, hints: Floats) -> Board:
        """The same with observed (or simulated) hints [Q, M, HINTS]."""
        if hints.shape != (*self.score.shape, HINTS):
            raise ValueError(f"hints have the shape {hints.shape}, expected {(*self.score.shape, HINTS)}")
        return replace(self, hints=hints)

    def fairly_priced(self) -> Board:
        """The same with each model's forecast costs scaled to what it really cost on average.

        Else a policy learns, and is praised for, what is wrong with the prices of the data rather than rounds.
        """
        known = ~np.isnan(self.score)
        paid, told = (np.where(known, part, 0).sum(axis=0) for part in (self.paid_usd, self.forecast_usd))
        scale = np.where((paid > 0) & (told > 0), paid / np.where(told > 0, told, 1), 1)
        return replace(self, forecast_usd=self.forecast_usd * scale)

    def begin(self, queries: Indices, weights: Doubles) -> States:
        """The states of some queries before any call; `weights` [B] are scores per US dollar."""
        shape = (len(queries), self.score.shape[1])
        return States(
            quality=self.quality[queries],
            price=(self.forecast_usd[queries] * weights[:, None]).astype(np.float32),
            length=np.full(shape, np.nan, dtype=np.float32),
            hints=np.full((*shape, HINTS), np.nan, dtype=np.float32),
            called=np.zeros(shape, dtype=np.bool_),
            open=~np.isnan(self.score[queries]),
            context=self.context[queries],
        )

    def call(self, states: States, queries: Indices, models: Indices) -> States:
        """The states after each row's model [B] has answered."""
        rows = np.arange(len(queries))
        length, hints = states.length.copy(), states.hints.copy()
        called, left = states.called.copy(), states.open.copy()
        length[rows, models] = self.length[queries, models]
        hints[rows, models] = self.hints[queries, models]
        called[rows, models] = True
        left[rows, models] = False
        return replace(states, length=length, hints=hints, called=called, open=left)


@dataclass(frozen=True, slots=True, eq=False)
class Plays:
    """How requests ended, arrays [B]: the given answer's score, what all calls cost, how many there were."""

    score: Floats
    paid_usd: Doubles
    calls: Indices
    answer: Indices


@dataclass(frozen=True, slots=True)
class Rules:
    """How values become actions: at most `max_rounds` calls, and another only if it is worth `margin` more."""

    max_rounds: int
    margin: float = 0.0


def decide(value: CascadeValue, states: States, rules: Rules) -> tuple[Indices, Indices, Floats]:
    """For each row the model to call next (-1: stop), the model of the best answer in hand (-1: none) and the value.

    All rows must have the same number of calls behind them.
    """
    scores = value.scores(states)
    made = int(states.called[0].sum())
    best = best_in_hand(states, scores)
    answer = np.where(states.called, scores, np.float32(-1)).argmax(axis=1) if made else np.full(len(best), -1)
    if made >= rules.max_rounds:
        return np.full(len(best), -1), answer, best
    worth = value.values(states, scores)
    pick = worth.argmax(axis=1)
    top = worth[np.arange(len(pick)), pick]
    go = states.open.any(axis=1) & ((top > best + rules.margin) if made else True)
    return np.where(go, pick, -1), answer, np.where(go, top, best)


def play(value: CascadeValue, board: Board, queries: Indices, weights: Doubles, states: States, rules: Rules) -> Plays:
    """Follow the policy from `states` to the end; `paid_usd` and `calls` count from here on."""
    total = len(queries)
    score, paid = np.zeros(total, dtype=np.float32), np.zeros(total)
    calls, given = np.zeros(total, dtype=np.intp), np.full(total, -1, dtype=np.intp)
    alive = np.arange(total)
    while len(alive):
        action, answer, _ = decide(value, states, rules)
        ended = action < 0
        over = alive[ended & (answer >= 0)]
        given[over] = answer[ended & (answer >= 0)]
        score[over] = board.score[queries[over], given[over]]
        on = np.flatnonzero(~ended)
        alive, states, action = alive[on], _some(states, on), action[on]
        paid[alive] += board.paid_usd[queries[alive], action]
        calls[alive] += 1
        states = board.call(states, queries[alive], action)
    return Plays(score, paid, calls, given)


def _some(states: States, rows: Indices) -> States:
    return States(*(getattr(states, name)[rows] for name in States.__slots__))
