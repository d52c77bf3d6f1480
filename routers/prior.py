"""Forecasts of output length and latency before anything was learned: by category, caller's cap and endpoint.

Calibrated on outputs of about 60 models: school mathematics 147 / 237 tokens (median / 90th percentile),
competition mathematics 337 / 785, short programs 222 / 364, knowledge questions with reasons 40 to 170 / 256,
tool calls 29 to 87 / 64 to 197. There a prompt's length told nearly nothing (correlation of logarithms 0.0 to 0.25).
"""

from __future__ import annotations

from dataclasses import dataclass

from routers.decision import Candidate, Forecast, Query

# Medians for categories that policies commonly name; any other category gets the general one.
_GENERAL = 200
_MEDIANS = {
    "code": 350,
    "math": 250,
    "writing": 500,
    "summary": 200,
    "translation": 150,
    "support": 150,
    "data_lookup": 80,
    "volatile": 120,
    "personal": 150,
    "chitchat": 60,
}
_TOOL_CALL = 60
_TYPICAL_OUTPUT = 200
_UPPER_FACTOR = 3
_LENGTH_POWER = 0.1
_TYPICAL_PROMPT = 100
_WAIT_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class OutputPrior:
    """Expected output tokens of a query whoever answers it, before a model's own limit."""

    median: int
    high: int


def output_prior(query: Query) -> OutputPrior:
    """Median and 90th percentile of the output's tokens, by category and prompt length, under the caller's cap."""
    features = query.features
    base = _TOOL_CALL if features.tools else _MEDIANS.get(query.category, _GENERAL)
    # A longer prompt asks for a slightly longer answer; 10 and 10,000 tokens make 0.8 and 1.6 of it.
    median = base * (max(features.tokens, 10) / _TYPICAL_PROMPT) ** _LENGTH_POWER
    cap = features.max_output_tokens
    high = _UPPER_FACTOR * median if cap is None else min(_UPPER_FACTOR * median, cap)
    return OutputPrior(max(round(min(median, high)), 1), max(round(high), 1))


def latency_factor(output_tokens: int) -> float:
    """Of an endpoint's usual latency half is waiting, half in proportion to the output's length."""
    return _WAIT_SHARE + (1 - _WAIT_SHARE) * output_tokens / _TYPICAL_OUTPUT


def prior_forecast(candidate: Candidate, quality: float, margin: float, output: OutputPrior) -> Forecast:
    """A forecast of given quality (0..1, plus and minus `margin`) with the priors for tokens and latency."""
    card = candidate.card
    limit = card.longest_output
    median, high = output.median, output.high
    if high > limit:
        median, high = min(median, limit), limit
    return Forecast(
        candidate.endpoint.id,
        quality,
        max(0.0, quality - margin),
        min(1.0, quality + margin),
        median,
        high,
        candidate.latency_ms * latency_factor(median),
    )
