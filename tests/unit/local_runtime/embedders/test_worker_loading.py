"""The worker and its model's loading: late, once, and not tried on each call when it fails."""

from __future__ import annotations

import asyncio
import threading

import pytest

from local_runtime.embedders.errors import EmbedderClosed, EmbedderUnavailable
from local_runtime.embedders.worker import EmbeddingWorker
from tests.unit.local_runtime.embedders.fake_embedder import FakeEmbedder


class Loader:
    """A factory that fails as often as it is told, under a clock that stands until it is moved."""

    def __init__(self, failures: int, error: BaseException) -> None:
        self.failures, self.error = failures, error
        self.attempts = 0
        self.now_s = 0.0

    def __call__(self) -> FakeEmbedder:
        self.attempts += 1
        if self.attempts <= self.failures:
            raise self.error
        return FakeEmbedder()

    def worker(self) -> EmbeddingWorker:
        return EmbeddingWorker(self, max_batch=2, retry_after_s=30, clock=lambda: self.now_s)


class Panic(BaseException):
    """What a Rust extension raises when it panics: no Exception."""


async def test_nothing_is_loaded_before_the_first_use() -> None:
    loader = Loader(0, OSError())
    before = threading.active_count()

    worker = loader.worker()

    assert (loader.attempts, threading.active_count()) == (0, before)
    assert not worker.stats().loaded
    await worker.warm()
    assert loader.attempts == 1
    await worker.close()


@pytest.mark.parametrize("error", [OSError("no space left"), Panic("no space left")])
async def test_a_model_that_cannot_be_loaded_fails_every_caller_with_the_reason(error: BaseException) -> None:
    loader = Loader(1, error)
    worker = loader.worker()

    outcomes = await asyncio.gather(*(worker.embed([text]) for text in "abc"), return_exceptions=True)

    assert all(isinstance(outcome, EmbedderUnavailable) for outcome in outcomes)
    assert all("no space left" in str(outcome) for outcome in outcomes)
    assert loader.attempts == 1
    assert (worker.stats().failed, worker.stats().batches) == (3, 0)
    await worker.close()


async def test_loading_is_tried_again_after_the_pause_and_not_before() -> None:
    loader = Loader(1, OSError("not yet"))
    worker = loader.worker()
    for moment_s, left_s in ((0, 30), (29, 1)):
        loader.now_s = moment_s
        with pytest.raises(EmbedderUnavailable, match="not yet") as refused:
            await worker.embed(["text"])
        assert refused.value.retry_in_s == left_s

    loader.now_s = 30
    await worker.embed(["text"])

    assert loader.attempts == 2
    await worker.close()


async def test_a_worker_closed_before_its_first_use_refuses() -> None:
    worker = EmbeddingWorker(FakeEmbedder)

    await worker.close()

    with pytest.raises(EmbedderClosed):
        await worker.warm()
