"""Cheap signals of an answer: what can be told of its worth without asking anybody. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.strategies.finals import final_of
from gateway.strategies.refusals import is_refusal
from gateway.wire.chat_reply import ChatReply, Choice
from routers.cascade_policy import (
    AGREEMENT,
    COMPARABLE,
    FIRST_ENTROPY,
    LOGPROB_MEAN,
    MARGIN_MEAN,
    REFUSAL,
    TRUNCATED,
    VERIFIER,
)
from routers.decision import Forecast

# In any dialect: the answer met a bound on its length; the vendor's own filter stepped in.
_CUT = frozenset({"length", "max_tokens", "max_output_tokens", "MAX_TOKENS"})
_FILTERED = frozenset({"content_filter", "refusal", "SAFETY", "PROHIBITED_CONTENT"})


@dataclass(frozen=True, slots=True)
class Signals:
    """Of one whole answer. `logprob_mean` and `first_entropy` in nats and `margin_mean` in 0..1, where the upstream
    told them (`routers.cascade_policy` says what they are); `length_ratio` to the forecast median; `agreement` the
    share of samples that say the same, `score` a scorer's word on it, where they were worked out."""

    finish_reason: str | None
    length_ratio: float
    refused: bool
    empty: bool
    truncated: bool
    comparable: bool
    logprob_mean: float | None = None
    first_entropy: float | None = None
    margin_mean: float | None = None
    agreement: float | None = None
    score: float | None = None

    def numbers(self) -> Mapping[str, float]:
        """As `routers.cascade_policy` names them; what was not observed is left out."""
        found: dict[str, float] = {
            REFUSAL: float(self.refused or self.empty),
            TRUNCATED: float(self.truncated),
            COMPARABLE: float(self.comparable),
        }
        seen = {
            LOGPROB_MEAN: self.logprob_mean,
            FIRST_ENTROPY: self.first_entropy,
            MARGIN_MEAN: self.margin_mean,
            AGREEMENT: self.agreement,
            VERIFIER: self.score,
        }
        return found | {name: value for name, value in seen.items() if value is not None}

    def shown(self) -> dict[str, Any]:
        """For the ledger: plain JSON values, without what says nothing."""
        said = {
            "finish_reason": self.finish_reason,
            "length_ratio": round(self.length_ratio, 3),
            "refused": self.refused or None,
            "empty": self.empty or None,
            "truncated": self.truncated or None,
            "comparable": self.comparable or None,
            "logprob_mean": _rounded(self.logprob_mean),
            "first_entropy": _rounded(self.first_entropy),
            "margin_mean": _rounded(self.margin_mean),
            "agreement": _rounded(self.agreement),
            "score": _rounded(self.score),
        }
        return {name: value for name, value in said.items() if value is not None}


def signals_of(reply: ChatReply, forecast: Forecast, output_tokens: int) -> Signals:
    """Read off a whole answer; `output_tokens` as they were billed."""
    choice = first_choice(reply)
    said, text, finish = choice.said, text_of_choice(choice), choice.finish_reason
    return Signals(
        finish_reason=finish,
        length_ratio=output_tokens / max(forecast.output_tokens, 1),
        refused=bool(said.refusal) or finish in _FILTERED or is_refusal(text),
        empty=not text.strip() and not said.tool_calls,
        truncated=finish in _CUT,
        comparable=bool(text.strip()) and final_of(text).comparable,
        logprob_mean=mean_logprob(choice.logprobs),
        first_entropy=first_entropy(choice.logprobs),
        margin_mean=mean_margin(choice.logprobs),
    )


def first_choice(reply: ChatReply) -> Choice:
    """The first answer, an empty one where there is none."""
    return reply.choices[0] if reply.choices else Choice()


def text_of_choice(choice: Choice) -> str:
    """What it says, a refusal in its own field among it."""
    said = choice.said
    return said.text or said.refusal or ""


def mean_logprob(logprobs: Mapping[str, Any] | None) -> float | None:
    """Mean log-probability of the answer's tokens in OpenAI's shape; None where it is absent or no such thing."""
    numbers = _logprobs((logprobs or {}).get("content"))
    # Impossible tokens are told as -9999: one would outweigh all others.
    return sum(max(value, -100.0) for value in numbers) / len(numbers) if numbers else None


def first_entropy(logprobs: Mapping[str, Any] | None) -> float | None:
    """Entropy of the first token in nats, as far as its alternatives were told: all others count as one. None without
    alternatives."""
    told = next(iter(_alternatives(logprobs)), None)
    if told is None:
        return None
    chances = [math.exp(value) for value in told]
    rest = 1.0 - math.fsum(chances)
    return -math.fsum(chance * math.log(chance) for chance in (*chances, rest) if chance > 0.0)


def mean_margin(logprobs: Mapping[str, Any] | None) -> float | None:
    """How far the likeliest token leads the next one in probability, the mean of all; None where that was not told."""
    leads = [math.exp(told[0]) - math.exp(told[1]) for told in _alternatives(logprobs)]
    return math.fsum(leads) / len(leads) if leads else None


def _alternatives(logprobs: Mapping[str, Any] | None) -> list[list[float]]:
    """Of each token that has two or more, the log-probabilities of what might have stood there, likeliest first."""
    tokens = (logprobs or {}).get("content")
    tops = [one.get("top_logprobs") for one in tokens if isinstance(one, dict)] if isinstance(tokens, list) else []
    told = [sorted((min(value, 0.0) for value in _logprobs(top)), reverse=True) for top in tops]
    return [values for values in told if len(values) > 1]


def _logprobs(tokens: Any) -> list[float]:
    """Those that are numbers, of a list of tokens."""
    values = [one.get("logprob") for one in tokens if isinstance(one, dict)] if isinstance(tokens, list) else []
    return [float(value) for value in values if isinstance(value, (int, float)) and math.isfinite(value)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
