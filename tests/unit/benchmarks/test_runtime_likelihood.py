"""Losses and perplexity, and how a worker feeds them chunk by chunk."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.runtime.likelihood import loss, perplexity, windows
from benchmarks.runtime.serve import Logits, window_loss


class Certain:
    """Gives the token that follows each one the same probability; `chunk` rows at a time."""

    def __init__(self, probability: float, chunk: int) -> None:
        self._logit = math.log(probability / (1 - probability) * 9)
        self._chunk = chunk

    def logits(self, tokens: Sequence[int]) -> Iterator[Logits]:
        rows = np.zeros((len(tokens), 10), dtype=np.float32)
        for at, following in enumerate(tokens[1:]):
            rows[at, following] = self._logit
        for start in range(0, len(tokens), self._chunk):
            yield rows[start : start + self._chunk]


def test_the_loss_is_that_of_the_softmax_however_large_the_logits() -> None:
    rows = np.array([[0.0, math.log(3.0)], [5000.0, 5000.0]], dtype=np.float32)

    assert loss(rows, [1, 0]) == pytest.approx(-math.log(0.75) - math.log(0.5))


@given(st.integers(1, 9), st.integers(2, 20))
def test_every_token_but_the_first_is_scored_once_whatever_the_chunks(chunk: int, length: int) -> None:
    window = [number % 10 for number in range(length)]

    total = window_loss(Certain(0.25, chunk), window)

    assert total == pytest.approx((length - 1) * math.log(4), rel=1e-5)
    assert perplexity([total, total], length) == pytest.approx(4.0, rel=1e-4)


def test_windows_are_whole_and_follow_each_other() -> None:
    assert windows([1, 2, 3, 4, 5, 6, 7], 3) == [[1, 2, 3], [4, 5, 6]]
    assert windows([1, 2], 3) == []
