"""The gateway's use of the embedder: one text, one bounded wait, and None instead of an error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from local_runtime.embedders.errors import EmbedderError
from local_runtime.embedders.model_thread import EmbedderFacts

log = logging.getLogger(__name__)
Vectors = npt.NDArray[np.float32]


class Worker(Protocol):
    """What this file needs of `local_runtime.embedders.worker.EmbeddingWorker`."""

    async def embed(self, texts: Sequence[str]) -> Vectors: ...
    async def warm(self) -> EmbedderFacts: ...


class Embedding:
    """Never fails a request: without an embedder, or when it is slow or broken, there is no embedding."""

    def __init__(self, worker: Worker | None, timeout_s: float) -> None:
        self._worker = worker
        self._timeout_s = timeout_s
        self.id = ""

    async def of(self, text: str) -> npt.NDArray[np.float32] | None:
        """The unit vector of a text, shape [dimensions], or None."""
        if self._worker is None:
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                vectors = await self._worker.embed([text])
                self.id = self.id or (await self._worker.warm()).id
                return np.asarray(vectors[0], dtype=np.float32)
        except (TimeoutError, EmbedderError) as error:
            log.warning("no embedding for this request: %s", str(error) or "it took too long")
            return None
