"""Requests and an embedder that fails: who waits for it, and when it is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from gateway.embedding import FAILURES_TO_PAUSE, PAUSE_S, Embedding, Vectors
from local_runtime.embedders.errors import EmbedderBusy, EmbedderError, EmbedderFailed
from local_runtime.embedders.model_thread import EmbedderFacts


class FakeWorker:
    """Answers with `fault` while there is one; `late`: not at all."""

    def __init__(self, fault: EmbedderError | None = None, late: bool = False) -> None:
        self.fault, self.late, self.asked = fault, late, 0

    async def embed(self, texts: Sequence[str]) -> Vectors:
        self.asked += 1
        if self.late:
            await asyncio.Event().wait()
        if self.fault is not None:
            raise self.fault
        return np.ones((len(texts), 2), np.float32)

    async def warm(self) -> EmbedderFacts:
        return EmbedderFacts("fake/1", 2, 8, len)


class FakeClock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize("worker", [FakeWorker(EmbedderFailed("broken")), FakeWorker(late=True)], ids=["fails", "late"])
async def test_after_three_failures_nobody_waits_and_one_tries_now_and_then(worker: FakeWorker) -> None:
    clock = FakeClock()
    embedding = Embedding(worker, 0.001, clock)

    assert [await embedding.of("x") for _ in range(10)] == [None] * 10
    assert (worker.asked, embedding.is_failing) == (FAILURES_TO_PAUSE, True)
    clock.now_s += PAUSE_S
    assert [await embedding.of("x") for _ in range(10)] == [None] * 10
    assert worker.asked == FAILURES_TO_PAUSE + 1


async def test_the_first_success_brings_everybody_back() -> None:
    clock, worker = FakeClock(), FakeWorker(EmbedderFailed("broken"))
    embedding = Embedding(worker, 1.0, clock)
    for _ in range(FAILURES_TO_PAUSE):
        await embedding.of("x")
    worker.fault = None

    assert await embedding.of("x") is None
    clock.now_s += PAUSE_S
    assert [(await embedding.of("x")) is not None for _ in range(3)] == [True] * 3
    assert (embedding.is_failing, embedding.id) == (False, "fake/1")


async def test_an_embedder_that_is_only_busy_is_not_given_up() -> None:
    worker = FakeWorker(EmbedderBusy(1))
    embedding = Embedding(worker, 1.0, FakeClock())

    assert [await embedding.of("x") for _ in range(10)] == [None] * 10
    assert (worker.asked, embedding.is_failing) == (10, False)
