"""How far the graph's forecasts are believed: judged by what out-of-fold choices were worth, not by forecast errors.

The best of many noisy forecasts is overestimated (the optimiser's curse), so the scale of what sets a model apart that
forecasts best is not the one that chooses best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from routers.graph_pool import biases
from routers.training.choices import Bench, bench_of, card_cost, choose_all, mean_of, prompt_tokens, taken
from routers.training.dataset import Doubles, Indices
from routers.training.graph.material import Material
from routers.training.metrics import aiq, rewards

SCALES = (0.0, 0.25, 0.5, 0.75, 1.0)
# Of what sets a model apart, the network's part; the rest are the linear heads'.
NETWORK_SHARE = 1 / 3
# In standard errors: what a smaller scale may fall behind the best one, and choices behind the best single model.
_TOLERANCE = 0.5
_RESAMPLES = 200
_HARDLY = 1e-9
# Of the ladder's weights, every so-manyth tells what trust is worth.
_STRIDE = 8
# Widths of the ramp between trust and distrust in cosine, and which share of known queries lies under its upper end.
_WIDTHS = (0.02, 0.05, 0.1, 0.2, 0.4)
_LOST = (0.003, 0.01)


@dataclass(frozen=True, slots=True, eq=False)
class Market:
    """What choices are worth on observed outcomes at true costs; `cost` and `usual_cost` (USD) [Q, M] are forecast."""

    bench: Bench
    groups: Indices
    cost: Doubles
    usual_cost: Doubles

    @classmethod
    def of(cls, made: Material, tokens: Doubles, usual_tokens: Doubles) -> Market:
        """Forecasts of cost are the cards' prices of the prompts' tokens and of these logarithms of expected outputs,
        [Q, M] and [M]."""
        given = np.broadcast_to(prompt_tokens(made.data)[:, None], made.score.shape)
        lengths = (tokens, np.broadcast_to(usual_tokens, tokens.shape))
        told, usual = (card_cost(made.cards, given, np.exp(one).astype(np.float32)) for one in lengths)
        return cls(bench_of(made.data), np.unique(made.data.groups, return_inverse=True)[1], told, usual)

    def figures(self, quality: Doubles, cost: Doubles, draws: Doubles) -> Doubles:
        """AIQ over log cost and the three rewards of the best choices, for weights of queries [R, Q]: [R, 4]."""
        took = taken(self.bench, choose_all(quality, cost, self.bench.weights, self.bench.observed))
        paid, won = draws @ took.cost.T, draws @ took.score.T
        traced = self.bench.traced
        area = aiq(paid[:, traced], won[:, traced], paid[:, -2], paid[:, -1])
        return np.column_stack([area, *rewards(self.bench, paid, won).values()])

    def single(self, usual: Doubles, draws: Doubles) -> Doubles:
        """The same of the best single model for each weight of cost."""
        means = np.nan_to_num(mean_of(self.bench.cost), nan=np.inf)
        shape = self.bench.score.shape
        return self.figures(np.broadcast_to(usual, shape), np.broadcast_to(means, shape), draws)

    def draws(self) -> Doubles:
        """Weights of queries [R, Q]: all alike, then as questions are drawn anew with replacement."""
        count = int(self.groups.max()) + 1
        rng = np.random.default_rng(count)
        times = rng.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
        whole = np.vstack([np.ones(len(self.groups)), times[:, self.groups]])
        weights: Doubles = whole / whole.sum(axis=1, keepdims=True)
        return weights

    def gains(self, quality: Doubles, usual: Doubles) -> Doubles:
        """What choosing by forecasts won over choosing by what is usual, [Q]: the mean over a few weights of cost, each
        in units of quality where cost counts less than that, of cost where it counts more."""
        few = self.bench.weights[self.bench.ladder][:-1:_STRIDE]
        ours, theirs = (
            taken(self.bench, choose_all(one, cost, few, self.bench.observed))
            for one, cost in ((quality, self.cost), (usual, self.usual_cost))
        )
        won = (ours.score - theirs.score)[: len(few)] - few[:, None] * (ours.cost - theirs.cost)[: len(few)]
        mean: Doubles = (won / (1 + few[:, None] * float(np.nanmedian(self.bench.cost)))).mean(axis=0)
        return mean


def shrunk(deviation: Doubles, heads: Doubles, own: float) -> Doubles:
    """What all models have in common as the network has it, what sets one apart by network and heads times `own`."""
    common = deviation.mean(axis=1, keepdims=True)
    of_network, of_heads = shares(own)
    found: Doubles = common + of_network * (deviation - common) + of_heads * heads
    return found


def shares(own: float) -> tuple[float, float]:
    """Scales of the network's own part and of the heads'."""
    return own * NETWORK_SHARE, own * (1 - NETWORK_SHARE)


def quality_of(deviation: Doubles, usual: Doubles) -> tuple[Doubles, Doubles]:
    """Qualities whose means are the usual ones, and the biases [M] that make them so."""
    found = biases(deviation, usual)
    return 1 / (1 + np.exp(-(found + deviation))), found


def best_own(market: Market, deviation: Doubles, heads: Doubles, usual: Doubles) -> float:
    """The least scale whose choices are about as good in AIQ as the best scale's; if these are worse than the best
    single model's at PF, BAL or CF, a smaller one. About: within half a standard error of the difference."""
    draws = market.draws()
    found = np.array(
        [market.figures(quality_of(shrunk(deviation, heads, own), usual)[0], market.cost, draws) for own in SCALES]
    )
    area, ahead = found[:, :, 0], (found - market.single(usual, draws))[:, :, 1:]
    best = int(area[:, 0].argmax())
    doubt = (area[:, 1:] - area[best, 1:]).std(axis=1)
    enough = area[:, 0] >= area[best, 0] - _TOLERANCE * doubt - _HARDLY
    safe = (ahead[:, 0] >= -_TOLERANCE * ahead[:, 1:].std(axis=1) - _HARDLY).all(axis=1)
    safe[0] = True
    least = int(enough.argmax())
    return SCALES[int(np.flatnonzero(safe[: least + 1]).max())]


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
