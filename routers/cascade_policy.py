"""Rounds of a cascade: look at what was called so far, then stop with an answer, call another model, or vote.

Pure: knows forecasts, costs and signals of answers; never a request, a socket or the text of an answer.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from policies.catalogue import ModelCard
from routers.decision import Candidate, Forecast, Query

MAX_ROUNDS = 3
_NANO = 1_000_000_000

# Signals that a caller may give of an answer; one that was not observed is left out.
VERIFIER = "verifier"  # a verifier's probability that the answer is right, 0..1
AGREEMENT = "agreement"  # share of k samples that give this answer, 0..1
LOGPROB_MEAN = "logprob_mean"  # mean log-probability of the answer's tokens, nats, <= 0
FIRST_ENTROPY = "first_entropy"  # of the answer's first token, nats (arXiv:2601.05110); what was not told counts as one
MARGIN_MEAN = "margin_mean"  # mean lead in probability of the likeliest token over the next, 0..1
REFUSAL = "refusal"  # 1: the model refused
TRUNCATED = "truncated"  # 1: the answer was cut at the output cap
COMPARABLE = "comparable"  # 1: the answer can be compared with others for equality, so that a vote is possible


@dataclass(frozen=True, slots=True)
class Step:
    """One call that was made: its model's card id, what it cost (input tokens too), and cheap signals of its answer."""

    model: str
    cost_nanousd: int
    output_tokens: int
    signals: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do next. `model` is the one to call, the one whose answer is given ("stop"), or None ("vote").

    "stop" with model None: nothing was called and nothing can be (no candidate, or none within the budget).
    `value` is the expected score of the final answer less the weighted cost of the calls still to come.
    """

    action: Literal["stop", "call", "vote"]
    model: str | None
    reason: str
    value: float


class Option(NamedTuple):
    """A model that may still be called, as forecast for its first endpoint, which is at `place`."""

    model: str
    quality: float
    cost_usd: float
    place: int


class Position(NamedTuple):
    """What is known before a round; `forecasts` are in the order of `candidates`, `left` are the models still open."""

    query: Query
    candidates: Sequence[Candidate]
    forecasts: Sequence[Forecast]
    steps: Sequence[Step]
    cost_weight_per_usd: float
    left: Sequence[Option]


class CascadePolicy(ABC):
    """The seam of cascades; `max_rounds` bounds the calls of one request."""

    __slots__ = ()

    @property
    @abstractmethod
    def max_rounds(self) -> int:
        """The most calls of one request."""

    def next(
        self,
        query: Query,
        candidates: Sequence[Candidate],
        forecasts: Sequence[Forecast],
        steps: Sequence[Step],
        cost_weight_per_usd: float,
        budget_nanousd: int | None,
    ) -> Verdict:
        """What to do after `steps` (none yet: which model to begin with).

        `forecasts` are the base router's, in the order of `candidates`; `cost_weight_per_usd` says how much of a score
        (0..1) one US dollar is worth; `budget_nanousd` is what may still be spent (None: no limit). A model is called
        at most once, and only if its cost at the upper quantile of output tokens fits the budget. Pure, never raises.
        """
        left = options_left(query, candidates, forecasts, steps, budget_nanousd)
        return self.weigh(Position(query, candidates, forecasts, steps, cost_weight_per_usd, left))

    @abstractmethod
    def weigh(self, at: Position) -> Verdict:
        """What each cascade has of its own: `next`, knowing which models are left. Pure, never raises."""


def options_left(
    query: Query,
    candidates: Sequence[Candidate],
    forecasts: Sequence[Forecast],
    steps: Sequence[Step],
    budget_nanousd: int | None,
) -> list[Option]:
    """Models not called yet whose upper cost fits the budget, in the candidates' order; one option a model.

    A model of unknown price costs as much as the dearest candidate, as `choose` has it, and fits no budget.
    """
    tokens, taken, found = query.features.tokens, {step.model for step in steps}, []
    costs = [
        one.card.cost_nanousd(tokens, told.expected_output_tokens)
        for one, told in zip(candidates, forecasts, strict=True)
    ]
    dearest = max(costs, default=0)
    for place, (one, told, cost) in enumerate(zip(candidates, forecasts, costs, strict=True)):
        card = one.card
        if card.id in taken:
            continue
        taken.add(card.id)
        unknown = not cost and not card.priced
        if budget_nanousd is not None and (unknown or not _fits(card, tokens, told, cost, budget_nanousd)):
            continue
        found.append(Option(card.id, told.quality, (dearest if unknown else cost) / _NANO, place))
    return found


def _fits(card: ModelCard, tokens: int, told: Forecast, cost_nanousd: int, budget_nanousd: int) -> bool:
    """Whether a call stays within what is left even if its output is long."""
    longest = max(told.output_tokens_high, told.expected_output_tokens)
    at_most = cost_nanousd * longest / max(told.expected_output_tokens, 1) + 1
    return at_most <= budget_nanousd or card.cost_nanousd(tokens, longest) <= budget_nanousd


@dataclass(frozen=True, slots=True)
class ThresholdCascade(CascadePolicy):
    """Needs no training: the cheapest model first, the next dearer and better one while the answer looks unsure.

    An answer's score is its verifier's, else the agreement of its samples, else the mean probability of its tokens,
    else what its model was forecast; a refusal or a cut answer scores 0. It is given once its score reaches
    `threshold`, or no model is left whose forecast is above that score by more than its call is worth. Answers that
    can be compared are put to a vote at the last round.
    """

    threshold: float = 0.7
    max_rounds: int = MAX_ROUNDS

    def weigh(self, at: Position) -> Verdict:
        """See `CascadePolicy`."""
        left, steps, cost_weight_per_usd = at.left, at.steps, at.cost_weight_per_usd
        if not steps:
            return _begin(left, cost_weight_per_usd)
        told = {one.card.id: forecast.quality for one, forecast in zip(at.candidates, at.forecasts, strict=True)}
        scores = [answer_score(step, told.get(step.model, 0.0)) for step in steps]
        best = max(range(len(steps)), key=scores.__getitem__)
        if scores[best] >= self.threshold:
            return _stop(steps[best], scores[best], f"it scores {scores[best]:.2f} of the {self.threshold:.2f} needed")
        if len(steps) >= self.max_rounds:
            return _last(steps, steps[best], scores[best])
        worth = [one for one in left if one.quality - scores[best] > cost_weight_per_usd * one.cost_usd]
        if not worth:
            return _stop(steps[best], scores[best], "no other model is worth its call")
        pick = min(worth, key=_price)
        reason = f"'{steps[best].model}' scores {scores[best]:.2f}, '{pick.model}' is forecast {pick.quality:.2f}"
        return Verdict("call", pick.model, reason, pick.quality - cost_weight_per_usd * pick.cost_usd)


def answer_score(step: Step, forecast_quality: float) -> float:
    """How sure an answer looks, 0..1, by the best signal that was observed."""
    signals = step.signals
    if signals.get(REFUSAL, 0.0) >= 0.5 or signals.get(TRUNCATED, 0.0) >= 0.5:
        return 0.0
    for name in (VERIFIER, AGREEMENT):
        if math.isfinite(value := signals.get(name, math.nan)):
            return min(max(value, 0.0), 1.0)
    if math.isfinite(value := signals.get(LOGPROB_MEAN, math.nan)):
        return math.exp(min(value, 0.0))
    return forecast_quality


def comparable(steps: Sequence[Step]) -> bool:
    """Whether three answers or more can be put to a vote."""
    return len(steps) >= 3 and all(step.signals.get(COMPARABLE, 0.0) >= 0.5 for step in steps)


def _begin(left: Sequence[Option], cost_weight_per_usd: float) -> Verdict:
    if not left:
        return Verdict("stop", None, "no candidate fits the budget", 0.0)
    first = min(left, key=_price)
    value = first.quality - cost_weight_per_usd * first.cost_usd
    return Verdict("call", first.model, f"'{first.model}' is the cheapest", value)


def _price(option: Option) -> tuple[float, float]:
    """The cheapest first, of equals the better."""
    return option.cost_usd, -option.quality


def _stop(step: Step, value: float, because: str) -> Verdict:
    return Verdict("stop", step.model, f"the answer of '{step.model}' is given: {because}", value)


def _last(steps: Sequence[Step], best: Step, score: float) -> Verdict:
    if comparable(steps):
        return Verdict("vote", None, f"the last of {len(steps)} rounds: its answers are put to a vote", score)
    return _stop(best, score, f"it is the surest of {len(steps)}, and no round is left")
