"""What a router would have chosen for queries whose every outcome is known, at each weight of cost; learns nothing.

A choice is `argmax quality - weight x forecast cost`, weight in quality per dollar: what `routers.choose` does with
weight = cost weight / (quality weight x cost_scale_usd), without its latency term, exploration and share by endpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.catalogue import ModelCard
from routers.predictions import Predictions
from routers.training.dataset import Dataset, Doubles, Indices

# Output tokens of a call where neither data nor forecast know any.
ASSUMED_OUTPUT_TOKENS = 256
# Weights in units of one over the dearest model's mean cost: ten a decade, and both ends, at which ties of quality go
# to the cheaper model and ties of cost to the better one.
_DECADES, _PER_DECADE = (-2, 5), 10
_ZERO, _INFINITE = 1e-9, 1e9
# Weights of score and normalised cost in GraphRouter's three scenarios (arXiv 2410.03834).
TRADE_OFFS = {"PF": (1.0, 0.0), "BAL": (0.5, 0.5), "CF": (0.2, 0.8)}

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What all routers are judged by on one set of queries: Q queries, M models, L weights of cost.

    `score` and `cost` (USD) are [Q, M], NaN outside `observed`. `weights` [L] are a rising ladder, then those of the
    three `TRADE_OFFS`. `cheapest` and `dearest` are columns of single models by their mean cost; `least` and `span`
    normalise a pair's cost as (cost - least) / span.
    """

    test: Dataset
    score: Doubles
    cost: Doubles
    observed: Mask
    weights: Doubles
    cheapest: int
    dearest: int
    least: float
    span: float

    @property
    def traced(self) -> list[int]:
        """The rows of `Taken` that make a curve: the ladder, and the cheapest single model, which closes it."""
        return [*range(self.ladder.stop), len(self.weights)]

    @property
    def ladder(self) -> slice:
        """The weights that trace a curve."""
        return slice(0, len(self.weights) - len(TRADE_OFFS))

    def at(self, trade_off: str) -> int:
        """The place of a trade-off among the weights."""
        return len(self.weights) - len(TRADE_OFFS) + list(TRADE_OFFS).index(trade_off)


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """What the choices were worth: true score and cost (USD) [L + 2, Q].

    The last two rows are the cheapest and the dearest single model, between whose mean costs curves are judged.
    """

    score: Doubles
    cost: Doubles


def bench_of(test: Dataset, whole: Dataset | None = None) -> Bench:
    """The bench of some queries; `whole` (default: the same) is where the span of costs and the ladder come from.

    Queries and models without any outcome can't be judged: `ValueError`.
    """
    whole = test if whole is None else whole
    score, cost, observed = test.score.astype(np.float64), true_cost(test), test.observed
    if not len(test) or not observed.any(axis=1).all():
        raise ValueError(f"{test.name}: every query to be judged needs at least one outcome with a score")
    everything = true_cost(whole)[whole.observed]
    means = mean_of(np.where(observed, cost, np.nan))
    dearest = float(np.nanmax(mean_of(true_cost(whole))))
    steps = (_DECADES[1] - _DECADES[0]) * _PER_DECADE + 1
    ladder = np.concatenate([[_ZERO], np.logspace(*_DECADES, steps), [_INFINITE]]) / max(dearest, 1e-12)
    least, span = float(everything.min()), float(np.ptp(everything)) or 1.0
    offs = [cost_weight / weight / span for weight, cost_weight in TRADE_OFFS.values()]
    return Bench(
        test=test,
        score=np.where(observed, score, np.nan),
        cost=np.where(observed, cost, np.nan),
        observed=observed,
        weights=np.concatenate([ladder, np.maximum(offs, ladder[0])]),
        cheapest=int(np.nanargmin(means)),
        dearest=int(np.nanargmax(means)),
        least=least,
        span=span,
    )


def true_cost(data: Dataset) -> Doubles:
    """Dollars of each pair [Q, M]: the data's, or where it has none the card's price of its tokens.

    Where output tokens are unknown too, every call is taken to write `ASSUMED_OUTPUT_TOKENS`: models are then told
    apart by price alone, as RouteLLM counts the share of strong calls.
    """
    given = np.where(np.isnan(data.input_tokens), data.inputs.tokens[:, None], data.input_tokens)
    return np.where(np.isnan(data.cost_usd), card_cost(data.models, given, data.output_tokens), data.cost_usd)


def prompt_tokens(data: Dataset) -> npt.NDArray[np.float32]:
    """Tokens of each whole prompt [Q], as they are known before a call: the median count over models.

    Texts leave out templates and examples that were sent with them, so their estimate stands in only where the data has
    no count.
    """
    known = ~np.isnan(data.input_tokens)
    counted = np.where(known.any(axis=1, keepdims=True), data.input_tokens, data.inputs.tokens[:, None])
    return np.nanmedian(counted, axis=1).astype(np.float32)


def forecast_cost(told: Predictions, cards: Sequence[ModelCard], tokens: npt.NDArray[np.float32]) -> Doubles:
    """Dollars that each pair is forecast to cost [Q, M], of the prompts' `tokens` [Q] and expected outputs."""
    given = np.broadcast_to(tokens[:, None], told.tokens.shape)
    return card_cost(cards, given, told.tokens_mean)


def card_cost(cards: Sequence[ModelCard], given: npt.NDArray[np.float32], written: npt.NDArray[np.float32]) -> Doubles:
    """Dollars at the cards' prices, tokens rounded and capped as a forecast's are; unpriced cards cost as the dearest.

    A column whose card has price rows by date or length is asked pair by pair.
    """
    cost = np.full(given.shape, np.nan)
    for place, card in enumerate(cards):
        if not card.priced:
            continue
        limit = card.longest_output
        out = np.nan_to_num(written[:, place].astype(np.float64), nan=ASSUMED_OUTPUT_TOKENS)
        out, read = np.clip(np.rint(out), 1, limit), np.rint(given[:, place].astype(np.float64))
        if card.price:
            pairs = zip(read.tolist(), out.tolist(), strict=True)
            cost[:, place] = [card.cost_nanousd(int(one), int(other)) / 1e9 for one, other in pairs]
        else:
            cost[:, place] = (read * (card.price_in_usd_per_mtok or 0) + out * (card.price_out_usd_per_mtok or 0)) / 1e6
    dearest = np.nanmax(cost, axis=1, keepdims=True) if np.isfinite(cost).any() else np.zeros((len(cost), 1))
    return np.where(np.isnan(cost), dearest, cost)


def choose_all(
    quality: npt.NDArray[np.floating], cost: Doubles, weights: Doubles, allowed: Mask | None = None
) -> Indices:
    """The column taken for each query at each weight [L, Q]; only `allowed` pairs may be taken."""
    barred = None if allowed is None or allowed.all() else ~allowed
    worth = np.nan_to_num(quality.astype(np.float64))
    places = np.empty((len(weights), len(worth)), dtype=np.intp)
    for row, weight in enumerate(weights):
        utility = worth - weight * cost
        if barred is not None:
            utility[barred] = -np.inf
        places[row] = utility.argmax(axis=1)
    return places


def taken(bench: Bench, places: Indices) -> Taken:
    """The true outcomes of chosen columns [L, Q], with the two single models that end every curve."""
    rows = np.arange(len(bench.score))
    first = np.where(bench.observed[:, bench.cheapest], bench.cheapest, np.nanargmin(bench.cost, axis=1))
    last = np.where(bench.observed[:, bench.dearest], bench.dearest, np.nanargmax(bench.cost, axis=1))
    all_places = np.concatenate([places, first[None], last[None]])
    return Taken(bench.score[rows, all_places], bench.cost[rows, all_places])


def taken_by(bench: Bench, told: Predictions) -> Taken:
    """The true outcomes of what a router's forecasts choose at each weight."""
    cost = forecast_cost(told, bench.test.models, prompt_tokens(bench.test))
    return taken(bench, choose_all(told.quality, cost, bench.weights, bench.observed))


def mean_of(values: Doubles) -> Doubles:
    """Mean of each column's known values; NaN for a column without any."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(count, total / np.maximum(count, 1), np.nan)
