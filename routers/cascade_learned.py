"""The trained cascade as it serves: one request's state as arrays of one row, values from the folded networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from routers.cascade_policy import (
    AGREEMENT,
    LOGPROB_MEAN,
    MAX_ROUNDS,
    REFUSAL,
    TRUNCATED,
    VERIFIER,
    CascadePolicy,
    Position,
    Step,
    Verdict,
    comparable,
)
from routers.cascade_value import CONTEXT, HINTS, PROJECTIONS, CascadeValue, States, length_signal_of, logit, sigmoid
from routers.decision import Candidate, Forecast, Query
from routers.inputs import Floats

# What is left of the expected score of an answer that was refused or cut off.
_SPOILT = 0.02
_MOST_WEIGHT = 1e12
# Unit vectors lie near their centre; this makes their places about as wide as other features.
_WIDENED = 4


@dataclass(frozen=True, slots=True)
class Projection:
    """A few directions of the embeddings, so that signals may mean other things in other fields; `centre` [D]."""

    centre: Floats
    directions: Floats  # [D, PROJECTIONS]

    def context(self, embeddings: Floats, tokens: Floats, code: Floats, tools: Floats, trust: Floats) -> Floats:
        """Embeddings [Q, D] and arrays [Q] to the context [Q, CONTEXT] that a cascade knows of a query."""
        placed = self.placed(embeddings) * embeddings.any(axis=1, keepdims=True)
        rest = np.stack((np.log1p(tokens) / 10, code, tools, trust), axis=1)
        return np.concatenate((placed, rest), axis=1, dtype=np.float32)

    def placed(self, embeddings: Floats) -> Floats:
        """Embeddings [..., D] to places [..., PROJECTIONS]."""
        return np.asarray((embeddings - self.centre) @ self.directions, dtype=np.float32)


# A called model's place among the candidates, and what came of the call.
Placed = tuple[int, Step]


@dataclass(frozen=True, slots=True)
class LearnedCascade(CascadePolicy):
    """Rounds from networks. It goes on only where that is worth `margin` more than the answer in hand.

    `rounds` calls are made on the signals that the networks know; `max_rounds` where others speak: a refusal, a cut,
    or a hint that `learned_hints` does not name, which counts half beside what the networks say, in log odds.
    """

    value: CascadeValue
    projection: Projection
    rounds: int = MAX_ROUNDS
    margin: float = 0.0
    max_rounds: int = MAX_ROUNDS
    learned_hints: tuple[bool, ...] = (False,) * HINTS

    def weigh(self, at: Position) -> Verdict:
        """See `CascadePolicy`."""
        candidates, steps = at.candidates, at.steps
        placed = _placed(candidates, steps)
        if not placed and (steps or not at.left):
            return _nothing_to_weigh(steps)
        states = self._states(at, placed)
        scores = self._seen(self.value.scores(states), placed)
        sure = [float(scores[0, place]) for place, _ in placed]
        surest = max(sure, default=0.0)
        best = candidates[placed[sure.index(surest)][0]].card.id if placed else ""
        if why := self._over(at):
            return _given(best, surest, sure, steps, why)
        worth = self.value.values(states, scores)[0]
        place = int(worth.argmax())
        value, model = float(worth[place]), candidates[place].card.id
        if not steps:
            reason = f"'{model}' is worth beginning with: {float(scores[0, place]):.2f} expected of its answer"
            return Verdict("call", model, reason, value)
        if value <= surest + self.margin:
            return _given(best, surest, sure, steps, "no other call is worth its cost")
        reason = f"'{best}' looks {surest:.2f} sure, a call of '{model}' is worth {value:.2f}"
        return Verdict("call", model, reason, value)

    def _over(self, at: Position) -> str:
        """Why no further call is weighed; nothing where one is."""
        if not at.left:
            return "no model is left within the budget"
        if len(at.steps) >= self.max_rounds:
            return "no round is left"
        if len(at.steps) >= self.rounds and not any(self._news(step) for step in at.steps):
            return "its length alone is no reason for another call"
        return ""

    def _news(self, step: Step) -> list[float]:
        """What was observed of an answer that the networks were not trained on."""
        found = [0.0] if _spoilt(step) else []
        hints = zip(_hints(step), self.learned_hints, strict=True)
        return found + [hint for hint, learned in hints if not learned and math.isfinite(hint)]

    def _states(self, at: Position, placed: Sequence[Placed]) -> States:
        count = len(at.candidates)
        length, hints = np.full((1, count), np.nan, np.float32), np.full((1, count, HINTS), np.nan, np.float32)
        called, free = np.zeros((1, count), np.bool_), np.zeros((1, count), np.bool_)
        price = np.zeros((1, count), np.float32)  # of models that are open: no other's counts
        places, weight = [option.place for option in at.left], min(max(at.cost_weight_per_usd, 0.0), _MOST_WEIGHT)
        free[0, places] = True
        price[0, places] = [option.cost_usd * weight for option in at.left]
        for place, step in placed:
            called[0, place] = True
            length[0, place] = _length(step, at.forecasts[place])
            hints[0, place] = _hints(step)
        return States(
            quality=np.array([[told.quality for told in at.forecasts]], dtype=np.float32),
            price=price,
            length=length,
            hints=hints,
            called=called,
            open=free,
            context=self._context(at.query, at.forecasts[0].trust),
        )

    def _context(self, query: Query, trust: float) -> Floats:
        features, vector, known = query.features, query.embedding, self.projection
        made = np.zeros((1, CONTEXT), dtype=np.float32)
        if vector is not None and len(vector) == len(known.centre):
            made[0, :PROJECTIONS] = known.placed(vector)
        made[0, PROJECTIONS:] = math.log1p(features.tokens) / 10, features.code, features.tools, trust
        return made

    def _seen(self, scores: Floats, placed: Sequence[Placed]) -> Floats:
        """Expected scores after what the networks were not trained on."""
        if not placed:
            return scores
        scores = scores.copy()
        for place, step in placed:
            score, news = float(scores[0, place]), self._news(step)
            if _spoilt(step):
                scores[0, place] = min(score, _SPOILT)
            elif news:
                scores[0, place] = sigmoid(logit(np.array([score, news[0]], dtype=np.float32)).mean())
        return scores


def _placed(candidates: Sequence[Candidate], steps: Sequence[Step]) -> list[Placed]:
    """Of the called models those that are candidates; a model with several endpoints is one model, at its first."""
    waiting = {step.model: step for step in steps}
    found = []
    for place, one in enumerate(candidates):
        if not waiting:
            break
        if (step := waiting.pop(one.card.id, None)) is not None:
            found.append((place, step))
    return found


def _nothing_to_weigh(steps: Sequence[Step]) -> Verdict:
    if not steps:
        return Verdict("stop", None, "no candidate fits the budget", 0.0)
    return Verdict("stop", steps[-1].model, "none of the called models is a candidate any more", 0.0)


def _given(model: str, surest: float, scores: Sequence[float], steps: Sequence[Step], why: str) -> Verdict:
    """The end: the surest answer, or a vote where three answers can be compared and a majority is surer."""
    sure = sorted(scores, reverse=True)[:3]
    if comparable(steps) and len(sure) == 3 and (majority := _majority(*sure)) > surest:
        return Verdict("vote", None, f"a majority of the answers is right with {majority:.2f}: {why}", majority)
    return Verdict("stop", model, f"the answer of '{model}' looks {surest:.2f} sure: {why}", surest)


def _spoilt(step: Step) -> bool:
    return step.signals.get(REFUSAL, 0.0) >= 0.5 or step.signals.get(TRUNCATED, 0.0) >= 0.5


def _majority(first: float, second: float, third: float) -> float:
    """Chance that two of three are right, were they independent."""
    return first * second + third * (first + second - 2 * first * second)


def _length(step: Step, told: Forecast) -> float:
    if step.output_tokens <= 0:
        return math.nan
    return length_signal_of(step.output_tokens, told.output_tokens, told.output_tokens_high)


def _hints(step: Step) -> tuple[float, ...]:
    """Verifier, agreement, mean probability of tokens; NaN where not observed."""
    signals = step.signals
    shares = (signals.get(VERIFIER, math.nan), signals.get(AGREEMENT, math.nan))
    logprob = signals.get(LOGPROB_MEAN, math.nan)
    return (
        *(min(max(share, 0.0), 1.0) if math.isfinite(share) else math.nan for share in shares),
        math.exp(min(logprob, 0.0)) if math.isfinite(logprob) else math.nan,
    )


def projection_of(embeddings: Floats) -> Projection:
    """The first principal directions of embeddings [Q, D], signs fixed; zeros beyond what they span."""
    centre = embeddings.mean(axis=0, dtype=np.float64)
    spread = (embeddings - centre).T @ (embeddings - centre)
    _, vectors = np.linalg.eigh(spread)
    found = vectors[:, ::-1][:, :PROJECTIONS]
    found = found * np.sign(found[np.abs(found).argmax(axis=0), np.arange(found.shape[1])])
    padded = np.zeros((embeddings.shape[1], PROJECTIONS))
    padded[:, : found.shape[1]] = found * _WIDENED
    return Projection(centre.astype(np.float32), padded.astype(np.float32))
