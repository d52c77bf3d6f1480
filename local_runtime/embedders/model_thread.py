"""The thread that owns a model: it sleeps until something waits, then takes all that waits as one batch.
Must know nothing of event loops, caches or who asks."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from local_runtime.embedders.base import Embedder
from local_runtime.embedders.errors import (
    EmbedderBusy,
    EmbedderClosed,
    EmbedderError,
    EmbedderFailed,
    EmbedderUnavailable,
)

Vectors = npt.NDArray[np.float32]
Outcome = Vectors | EmbedderError


class Waiting(Protocol):
    """What may wait: a text, or None to have the model loaded and no more."""

    @property
    def text(self) -> str | None: ...


W = TypeVar("W", bound=Waiting)


@dataclass(frozen=True, slots=True)
class EmbedderFacts:
    """What a loaded embedder says of itself: see base.Embedder. `count_tokens` may be called in any thread."""

    id: str
    dimensions: int
    max_tokens: int
    count_tokens: Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Answer:
    """One batch, answered: an outcome for each item in its order (an empty vector for a text of None), how many texts
    went through the model, and the time they took."""

    outcomes: Sequence[Outcome]
    texts: int = 0
    model_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Outage:
    reason: str
    until_s: float


class ModelThread(Generic[W]):
    """`put`, `withdraw`, `close` and `waiting` may be called from anywhere; `deliver` is called in the thread."""

    def __init__(
        self,
        factory: Callable[[], Embedder],
        deliver: Callable[[Sequence[W], Answer], None],
        max_batch: int,
        max_waiting: int,
        retry_after_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._factory, self._deliver = factory, deliver
        self._max_batch, self._max_waiting = max_batch, max_waiting
        self._retry_after_s, self._clock = retry_after_s, clock
        self._wake = threading.Condition()
        self._queue: deque[W] = deque()
        self._closed = False
        self._thread: threading.Thread | None = None
        # Written by the thread alone:
        self.facts: EmbedderFacts | None = None
        self._embedder: Embedder | None = None
        self._outage: _Outage | None = None

    @property
    def waiting(self) -> int:
        """Items that no batch has taken yet."""
        return len(self._queue)

    def put(self, items: Sequence[W]) -> None:
        """Queues all of them or raises: EmbedderClosed, EmbedderBusy."""
        with self._wake:
            if self._closed:
                raise EmbedderClosed
            if len(self._queue) + len(items) > self._max_waiting:
                raise EmbedderBusy(self._max_waiting)
            self._queue.extend(items)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="embedder", daemon=True)
                self._thread.start()
            self._wake.notify()

    def withdraw(self, item: W) -> bool:
        """Takes an item back out of the queue; False if a batch has it already."""
        with self._wake:
            if item in self._queue:
                self._queue.remove(item)
                return True
            return False

    def close(self) -> Sequence[W]:
        """Ends the thread after the batch it is at; gives back what still waited."""
        with self._wake:
            self._closed = True
            abandoned = list(self._queue)
            self._queue.clear()
            self._wake.notify()
        return abandoned

    def join(self) -> None:
        """Blocks until the thread has ended; then lets go of the model."""
        if self._thread is not None:
            self._thread.join()
        self._embedder = None

    def _work(self) -> None:
        while batch := self._next_batch():
            self._deliver(batch, self._answer(batch))

    def _next_batch(self) -> list[W]:
        """Blocks until something waits; empty once closed."""
        with self._wake:
            while not self._queue and not self._closed:
                self._wake.wait()
            return [self._queue.popleft() for _ in range(min(len(self._queue), self._max_batch))]

    def _answer(self, batch: Sequence[W]) -> Answer:
        try:
            embedder = self._loaded()
        except EmbedderUnavailable as error:
            return Answer([error] * len(batch))
        texts = [item.text for item in batch if item.text is not None]
        started = time.perf_counter()
        vectors = iter(_attempt(embedder, texts))
        nothing = np.empty(0, np.float32)
        outcomes = [nothing if item.text is None else next(vectors) for item in batch]
        return Answer(outcomes, len(texts), time.perf_counter() - started)

    def _loaded(self) -> Embedder:
        if self._embedder is not None:
            return self._embedder
        if self._outage is not None and (left_s := self._outage.until_s - self._clock()) > 0:
            raise EmbedderUnavailable(self._outage.reason, left_s)
        try:
            embedder = self._factory()
            facts = EmbedderFacts(embedder.id, embedder.dimensions, embedder.max_tokens, embedder.count_tokens)
        except BaseException as error:  # a Rust panic is no Exception, and a dead thread would hang its callers
            self._outage = _Outage(_said(error), self._clock() + self._retry_after_s)
            raise EmbedderUnavailable(self._outage.reason, self._retry_after_s) from error
        self._embedder, self.facts, self._outage = embedder, facts, None
        return embedder


def _attempt(embedder: Embedder, texts: Sequence[str]) -> list[Outcome]:
    """A vector or an error for each text. When a batch raises, each is tried alone: one bad text is its own loss."""
    if not texts:
        return []
    try:
        vectors = np.asarray(embedder.embed(texts), np.float32)
    except BaseException as error:  # noqa: BLE001 - as above; recorded in the outcome
        if len(texts) > 1:
            return [outcome for text in texts for outcome in _attempt(embedder, [text])]
        return [EmbedderFailed(_said(error))]
    if vectors.shape != (len(texts), embedder.dimensions):
        return [EmbedderFailed(f"the model answered with shape {vectors.shape}") for _ in texts]
    # Copied, because a row of the batch would keep the whole batch alive in a cache.
    return [row.copy() if np.isfinite(row).all() else EmbedderFailed("numbers are not finite") for row in vectors]


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
