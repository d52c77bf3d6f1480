"""The gateway's use of the embedder: one text, one bounded wait, and None instead of an error."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from local_runtime.embedders.errors import EmbedderBusy, EmbedderError
from local_runtime.embedders.model_thread import EmbedderFacts

log = logging.getLogger(__name__)
Vectors = npt.NDArray[np.float32]

FAILURES_TO_PAUSE = 3
PAUSE_S = 5.0


class Worker(Protocol):
    """What this file needs of `local_runtime.embedders.worker.EmbeddingWorker`."""

    async def embed(self, texts: Sequence[str]) -> Vectors: ...
    async def warm(self) -> EmbedderFacts: ...


class Embedding:
    """Never fails a request: without an embedder, or when it is slow or broken, there is no embedding.

    After three failures in a row nobody waits for it any more; every five seconds one request tries.
    """

    def __init__(self, worker: Worker | None, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._worker = worker
        self._timeout_s = timeout_s
        self._clock = clock
        self._failures = 0
        self._paused_until = 0.0
        self.facts: EmbedderFacts | None = None

    @property
    def id(self) -> str:
        """Names the embedder and its version; empty until it is loaded."""
        return "" if self.facts is None else self.facts.id

    @property
    def is_failing(self) -> bool:
        """Whether requests go on without it."""
        return self._failures >= FAILURES_TO_PAUSE

    async def warm(self) -> None:
        """Load the embedder, so that its `facts` are known; where that fails, requests go on without it."""
        if self._worker is None:
            return
        try:
            self.facts = await self._worker.warm()
        except EmbedderError as error:
            log.warning("embedder: it can't be loaded (%s)", error)

    async def of(self, text: str) -> npt.NDArray[np.float32] | None:
        """The unit vector of a text, shape [dimensions], or None."""
        if self._worker is None or (self.is_failing and not self._may_try()):
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                vectors = await self._worker.embed([text])
                self.facts = self.facts or await self._worker.warm()
        except EmbedderBusy:
            return None
        except (TimeoutError, EmbedderError) as error:
            self._failed(str(error) or f"it took longer than {self._timeout_s:g} s")
            return None
        if self.is_failing:
            log.warning("embedder: it works again")
        self._failures = 0
        return np.asarray(vectors[0], dtype=np.float32)

    def _may_try(self) -> bool:
        now = self._clock()
        if now < self._paused_until:
            return False
        self._paused_until = now + max(PAUSE_S, self._timeout_s)  # the others do not wait for the one that tries
        return True

    def _failed(self, reason: str) -> None:
        self._failures += 1
        if self._failures == FAILURES_TO_PAUSE:
            log.warning("embedder: requests go on without it (%s)", reason)
            self._paused_until = self._clock() + PAUSE_S
