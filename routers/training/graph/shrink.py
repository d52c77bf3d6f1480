"""How far the graph's forecasts are believed: judged by what out-of-fold choices were worth, not by forecast errors.

The best of many noisy forecasts is overestimated (the optimiser's curse), so the scale of what sets a model apart that
forecasts best is not the one that chooses best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from routers.graph_pool import biases
from routers.training.choices import card_cost
from routers.training.dataset import Doubles, Indices
from routers.training.graph.loop import Held
from routers.training.graph.material import Material
from routers.training.metrics import aiq

OWN_SCALES = (0.0, 0.25, 0.5)
_LADDER = 41
_SPAN = (-2.0, 4.0)
# Widths of the ramp between trust and distrust in cosine, and which share of known queries lies under its upper end.
_WIDTHS = (0.02, 0.05, 0.1, 0.2, 0.4)
_LOST = (0.01, 0.03)


@dataclass(frozen=True, slots=True, eq=False)
class Market:
    """What choices cost and were worth: scores and costs (USD) [Q, M], weights of cost [L] in quality per dollar."""

    score: Doubles
    cost: Doubles
    told_cost: Doubles
    usual_cost: Doubles
    weights: Doubles

    @classmethod
    def of(cls, made: Material, tokens: Doubles, usual_tokens: Doubles) -> Market:
        """True costs are the cards' prices of the tokens that were written, the forecast ones of those forecast."""
        given = np.broadcast_to(made.inputs.tokens[:, None], made.score.shape).astype(np.float32)
        length = np.where(np.isnan(made.log_tokens), usual_tokens, made.log_tokens)
        costs = [card_cost(made.cards, given, np.exp(one).astype(np.float32)) for one in (length, tokens)]
        usual = card_cost(made.cards, given, np.exp(np.broadcast_to(usual_tokens, length.shape)).astype(np.float32))
        dearest = max(float(costs[0].mean(axis=0).max()), 1e-12)
        weights = np.concatenate([[1e-9], np.logspace(*_SPAN, _LADDER)]) / dearest
        score = np.where(np.isnan(made.score), np.nanmean(made.score, axis=0), made.score)
        return cls(score, costs[0], costs[1], usual, weights)

    def curve(self, quality: Doubles, cost: Doubles) -> tuple[Doubles, Doubles]:
        """Mean cost and score [1, L + 1] of the best choices by these forecasts, the last of the cheapest model."""
        rows = np.arange(len(quality))
        places = [np.argmax(quality - weight * cost, axis=1) for weight in self.weights]
        cheapest = int(self.cost.mean(axis=0).argmin())
        places.append(np.full(len(rows), cheapest))
        found = [(self.cost[rows, place].mean(), self.score[rows, place].mean()) for place in places]
        return np.array([[one[0] for one in found]]), np.array([[one[1] for one in found]])

    def worth(self, quality: Doubles, cost: Doubles) -> float:
        """AIQ over log cost."""
        means = self.cost.mean(axis=0)
        paid, won = self.curve(quality, cost)
        return float(aiq(paid, won, np.array([means.min()]), np.array([means.max()]))[0])

    def gains(self, quality: Doubles, usual: Doubles) -> Doubles:
        """What choosing by forecasts won over choosing by what is usual, [Q]: the mean over a few weights of cost, each
        in units of quality where cost counts less than that, of cost where it counts more."""
        rows, total = np.arange(len(quality)), np.zeros(len(quality))
        middle = float(np.median(self.cost))
        few = self.weights[:: max(len(self.weights) // 8, 1)]
        for weight in few:
            ours = np.argmax(quality - weight * self.told_cost, axis=1)
            theirs = np.argmax(usual - weight * self.usual_cost, axis=1)
            won = self.score[rows, ours] - self.score[rows, theirs]
            won = won - weight * (self.cost[rows, ours] - self.cost[rows, theirs])
            total += won / (1 + weight * middle)
        mean: Doubles = total / len(few)
        return mean


def shrunk(deviation: Doubles, own: float) -> Doubles:
    """What all models have in common as it is, what sets one apart times `own`."""
    common = deviation.mean(axis=1, keepdims=True)
    scaled: Doubles = common + own * (deviation - common)
    return scaled


def quality_of(deviation: Doubles, usual: Doubles) -> tuple[Doubles, Doubles]:
    """Qualities whose means are the usual ones, and the biases [M] that make them so."""
    found = biases(deviation, usual)
    return 1 / (1 + np.exp(-(found + deviation))), found


def best_own(market: Market, held: Held, usual: Doubles) -> float:
    """The scale whose choices were worth most: AIQ, and a quarter of the score where cost weighs nothing.

    Neighbours on the grid are averaged in, against chance.
    """
    worths = []
    for own in OWN_SCALES:
        quality, _ = quality_of(shrunk(held.deviation, own), usual)
        best = market.score[np.arange(len(quality)), quality.argmax(axis=1)].mean()
        worths.append(market.worth(quality, market.told_cost) + best / 4)
    spread = np.maximum(1 - 0.5 * np.abs(np.subtract.outer(np.arange(len(worths)), np.arange(len(worths)))), 0)
    return OWN_SCALES[int((spread @ np.array(worths) / spread.sum(axis=1)).argmax())]


def near_other_folds(made: Material, fold: Indices, neighbour: int) -> npt.NDArray[np.float32]:
    """Cosine of each row to its `neighbour`-th nearest fine node among those where other folds have queries, [Q]."""
    found = np.full(len(made), -1.0, dtype=np.float32)
    for one in np.unique(fold):
        inside = np.flatnonzero(fold == one)
        nodes = np.unique(made.node[fold != one])
        if not len(nodes):
            continue
        place = max(len(nodes) - neighbour, 0)
        for block in np.array_split(inside, len(inside) // 1024 + 1):
            cosines = made.inputs.embeddings[block] @ made.places.fine[nodes].T
            found[block] = np.partition(cosines, place, axis=1)[:, place] if len(block) else 0
    return found


def best_limits(
    familiar: npt.NDArray[np.float32], strange: npt.NDArray[np.float32], gain: Doubles
) -> tuple[float, float]:
    """Cosines under which there is no trust, and from which there is whole trust.

    `familiar` are known queries' cosines, which mostly must be trusted; `strange` and `gain` those of queries whose
    part of the space was left out, and what trusting forecasts won there. One standard error must be won for trust.
    """
    best, limits = -np.inf, (0.0, 0.0)
    for lost in _LOST:
        high = float(np.quantile(familiar, lost))
        for width in _WIDTHS:
            trust = np.clip((strange - (high - width)) / width, 0, 1)
            won = trust * gain
            worth = float(won.sum() - np.sqrt((won**2).sum()))
            if worth > best + 1e-12:
                best, limits = worth, (high - width, high)
    return limits
