"""Greedy decoding: the best token after penalties and bias; of equals the lowest id."""

from __future__ import annotations

from local_runtime.base import Sampling
from local_runtime.decoding import filters
from local_runtime.decoding.base import History, Row


def adjusted(logits: Row, history: History, sampling: Sampling) -> Row:
    """Logits after repetition, presence and frequency penalties and the caller's bias."""
    filters.require_finite_best(logits)
    if sampling.repetition_penalty != 1.0:
        seen = [*history.prompt, *history.generated]
        logits = filters.repetition_penalty(logits, seen, sampling.repetition_penalty)
    generated = history.generated
    logits = filters.presence_and_frequency(logits, generated, sampling.presence_penalty, sampling.frequency_penalty)
    return filters.bias(logits, sampling.logit_bias)


class Greedy:
    """A DecodingStrategy without randomness."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling

    def choose(self, logits: Row, history: History) -> int:
        """See DecodingStrategy.choose."""
        return int(adjusted(logits, history, self._sampling).argmax())
