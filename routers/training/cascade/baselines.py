"""What a cascade must beat: one call by forecast, a fixed order with thresholds, a fixed vote of three."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from routers.cascade_value import CascadeValue
from routers.training.cascade.board import Board
from routers.training.dataset import Doubles, Floats, Indices

_CUTS = 20
_EXTENDED = 4
_ROUNDING = 1e-9

# What a policy scores and pays for each query, arrays [Q].
Result = tuple[Floats, Doubles]


def one_call(board: Board, weight: float) -> Result:
    """Each query to the model of the best forecast."""
    pick = (board.quality - weight * board.forecast_usd).argmax(axis=1)
    rows = np.arange(len(board))
    return board.score[rows, pick], board.paid_usd[rows, pick]


def own_scores(value: CascadeValue, board: Board) -> Floats:
    """How sure each answer looks had its model alone been called: the stop score of a fixed order; shape [Q, M]."""
    queries = np.arange(len(board))
    blank = board.begin(queries, np.ones(len(board)))
    columns = []
    for model in range(board.score.shape[1]):
        states = board.call(blank, queries, np.full(len(board), model))
        columns.append(value.scores(states)[:, model])
    return np.stack(columns, axis=1)


@dataclass(frozen=True, slots=True)
class FixedOrder:
    """Models in the order of their calls; the answer of `models[i]` is given if it looks at least `cuts[i]` sure."""

    models: tuple[int, ...]
    cuts: tuple[float, ...]

    def apply(self, board: Board, sure: Floats) -> Result:
        """Score and cost for each query; `sure` as `own_scores` gives it."""
        score, paid = np.zeros(len(board), dtype=np.float32), np.zeros(len(board))
        alive = np.arange(len(board))
        for model, cut in zip(self.models, (*self.cuts, -1.0), strict=True):
            paid[alive] += board.paid_usd[alive, model]
            score[alive] = board.score[alive, model]
            alive = alive[sure[alive, model] < cut]
        return score, paid


class FixedOrders:
    """Finds the best order of at most three models with its thresholds, for any weight of cost (after FrugalGPT)."""

    def __init__(self, train: Board, sure: Floats) -> None:
        self._train, self._sure = train, sure
        self._everyone = np.arange(len(train))
        self._pairs = [_pair(train, sure, self._everyone, model) for model in range(train.score.shape[1])]
        self._after: dict[tuple[int, float], list[_Pair]] = {}

    def best(self, weight: float) -> FixedOrder:
        """The best on the board that it was made for."""
        worth = self._train.score.mean(axis=0) - weight * self._train.paid_usd.mean(axis=0)
        alone = int(worth.argmax())
        best, found = float(worth[alone]), FixedOrder((alone,), ())
        pairs = sorted((pair.best(weight, ()) for pair in self._pairs), reverse=True)
        for value, first, second, cut in pairs:
            if value / len(self._train) > best + _ROUNDING:
                best, found = value / len(self._train), FixedOrder((first, second), (cut,))
        for _, first, _, cut in pairs[:_EXTENDED]:
            value, second, third, again = self._extended(first, cut, weight)
            if value / len(self._train) > best + _ROUNDING:
                best, found = value / len(self._train), FixedOrder((first, second, third), (cut, again))
        return found

    def _extended(self, first: int, cut: float, weight: float) -> tuple[float, int, int, float]:
        """The best that can follow `first` where it is not sure: total worth, second, third, second threshold."""
        unsure = self._sure[:, first] < cut
        rest, settled = np.flatnonzero(unsure), np.flatnonzero(~unsure)
        if len(rest) < _CUTS:
            return -np.inf, first, first, cut
        if (first, cut) not in self._after:
            others = (model for model in range(self._train.score.shape[1]) if model != first)
            self._after[first, cut] = [_pair(self._train, self._sure, rest, model) for model in others]
        base = self._train.score[settled, first].sum() - weight * self._train.paid_usd[:, first].sum()
        value, second, third, again = max(pair.best(weight, (first,)) for pair in self._after[first, cut])
        return float(base) + value, second, third, again


class _Pair(NamedTuple):
    """Sums over queries for each threshold [K] of a first model and each second one [K, M]."""

    first: int
    cuts: Doubles
    score: Doubles
    paid_usd: Doubles

    def best(self, weight: float, barred: tuple[int, ...]) -> tuple[float, int, int, float]:
        """Total worth, first, second, threshold."""
        worth = self.score - weight * self.paid_usd
        worth[:, [self.first, *barred]] = -np.inf
        place, second = np.unravel_index(int(worth.argmax()), worth.shape)
        return float(worth[place, second]), self.first, int(second), float(self.cuts[place])


def _pair(train: Board, sure: Floats, rows: Indices, first: int) -> _Pair:
    order = rows[np.argsort(-sure[rows, first], kind="stable")]
    falling = -sure[order, first]
    # A threshold can't divide equals: every cut lies behind the last of them.
    ends = np.unique(np.searchsorted(falling, falling[np.linspace(0, len(rows) - 1, _CUTS).astype(int)], "right"))
    kept_score = np.cumsum(train.score[order, first], dtype=np.float64)[ends - 1]
    score = kept_score[:, None] + _beyond(train.score[order].astype(np.float64), ends)
    paid = train.paid_usd[order, first].sum() + _beyond(train.paid_usd[order], ends)
    return _Pair(first, -falling[ends - 1].astype(np.float64), score, paid)


def _beyond(values: Doubles, ends: Indices) -> Doubles:
    """Sums of the rows [N, M] from each end [K] on, [K, M]."""
    total = np.cumsum(values, axis=0)
    return np.asarray(total[-1] - total[ends - 1])


@dataclass(frozen=True, slots=True)
class Vote:
    """Two models, and a third unless both are right; right where two of three are. One model: no vote.

    A lower bound of a vote that ends when two agree, since which wrong answers agree is not in the data: two wrong
    answers count as wrong, and as disagreeing where that costs a third call.
    """

    models: tuple[int, ...]

    def apply(self, board: Board) -> Result:
        """Score and cost for each query; scores must be 0 or 1."""
        if len(self.models) == 1:
            return board.score[:, self.models[0]], board.paid_usd[:, self.models[0]]
        (first, second, third), paid = board.score[:, self.models].T, board.paid_usd[:, self.models]
        both = first * second
        return both + third * (first + second - 2 * both), paid[:, 0] + paid[:, 1] + (1 - both) * paid[:, 2]


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """Mean score and cost of every vote on a board, to find the best for any weight of cost."""

    models: Indices  # [N, 3]
    score: Doubles
    paid_usd: Doubles
    single_score: Doubles
    single_usd: Doubles

    @classmethod
    def on(cls, board: Board) -> Votes:
        """Of all ordered pairs and every third model."""
        score, paid, count = board.score.astype(np.float64), board.paid_usd, board.score.shape[1]
        found, worth, cost = [], [], []
        for first in range(count):
            for second in range(first + 1, count):
                both = score[:, first] * score[:, second]
                one_of = score[:, first] + score[:, second] - 2 * both
                thirds = np.setdiff1d(np.arange(count), (first, second))
                found.append(np.stack((np.full(len(thirds), first), np.full(len(thirds), second), thirds), axis=1))
                worth.append((both.mean() + one_of @ score / len(score))[thirds])
                cost.append(((paid[:, first] + paid[:, second]).mean() + (1 - both) @ paid / len(score))[thirds])
        triples = np.concatenate(found) if found else np.zeros((0, 3), dtype=np.intp)
        scores, costs = (np.concatenate([np.zeros(0), *part]) for part in (worth, cost))
        return cls(triples, scores, costs, score.mean(axis=0), paid.mean(axis=0))

    def best(self, weight: float) -> Vote:
        """The best vote, or the best single model where that is better."""
        single = self.single_score - weight * self.single_usd
        votes = self.score - weight * self.paid_usd
        if not len(votes) or single.max() >= votes.max():
            return Vote((int(single.argmax()),))
        return Vote(tuple(int(model) for model in self.models[votes.argmax()]))
