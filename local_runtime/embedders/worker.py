"""Embedding for asyncio callers: a cache of vectors, and one model thread in which concurrent callers share a forward
pass. Must know neither which model it runs nor who asks."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice

import numpy as np

from local_runtime.embedders.base import Embedder
from local_runtime.embedders.errors import EmbedderBusy, EmbedderClosed, EmbedderError
from local_runtime.embedders.model_thread import Answer, EmbedderFacts, ModelThread, Outcome, Vectors


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """Texts since the worker was made, by what became of them; `waiting`, `cached` and `loaded` are of now.

    `shared`: joined a text that was already waiting; `refused`: EmbedderBusy; `model_s`: seconds inside the model.
    """

    asked: int
    from_cache: int
    shared: int
    embedded: int
    failed: int
    refused: int
    batches: int
    largest_batch: int
    model_s: float
    waiting: int
    cached: int
    loaded: bool


@dataclass(slots=True)
class _Counts:
    asked: int = 0
    from_cache: int = 0
    shared: int = 0
    embedded: int = 0
    failed: int = 0
    refused: int = 0
    batches: int = 0
    largest_batch: int = 0
    model_s: float = 0.0


@dataclass(slots=True, eq=False)
class _Job:
    """One text on its way, and the number of callers that wait for it."""

    key: bytes
    text: str | None
    done: asyncio.Future[Vectors]
    callers: int = 0


class EmbeddingWorker:
    """Serves one event loop. The thread and the model come into being at the first use, or by `warm`.

    `max_batch`: texts per forward pass; `max_waiting`: texts that may wait before EmbedderBusy; `cache_size`: vectors
    kept for repeated texts (384 floats each: 10,000 are 15 MB; 0 keeps none); `retry_after_s`: how long a failed load
    is answered from memory before the next attempt.
    """

    def __init__(
        self,
        embedder_factory: Callable[[], Embedder],
        max_batch: int = 32,
        max_waiting: int = 256,
        cache_size: int = 10_000,
        retry_after_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_batch < 1 or max_waiting < 1 or cache_size < 0:
            raise ValueError("max_batch and max_waiting must be at least 1, cache_size at least 0")
        self._model: ModelThread[_Job] = ModelThread(
            embedder_factory, self._hand_over, max_batch, max_waiting, retry_after_s, clock
        )
        self._part_size = min(max_batch, max_waiting)
        self._cache_size = cache_size
        self._cache: OrderedDict[bytes, Vectors] = OrderedDict()
        self._pending: dict[bytes, _Job] = {}
        self._counts = _Counts()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def warm(self) -> EmbedderFacts:
        """Loads the model if it is not loaded, and says what it is. Raises as `embed` does."""
        self._refuse_when_closed()
        while (facts := self._model.facts) is None:
            await self._computed([(b"", None)])
        return facts

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit-norm float32 vectors, shape [len(texts), dimensions], in the order of the texts; the caller's to keep.

        A long list goes through in parts, so that it neither fills the queue nor keeps others waiting for all of it.
        Raises EmbedderBusy, EmbedderUnavailable, EmbedderFailed, EmbedderClosed. May be cancelled at any time.
        """
        self._refuse_when_closed()
        self._counts.asked += len(texts)
        if not texts:
            return np.empty((0, (await self.warm()).dimensions), np.float32)
        keys = [_key(text) for text in texts]
        found: dict[bytes, Vectors] = {}
        missing: dict[bytes, str] = {}
        for key, text in zip(keys, texts, strict=True):
            vector = self._cached(key)
            if vector is None:
                missing[key] = text
            else:
                found[key] = vector
        for part in _parts(missing, self._part_size):
            found.update(await self._computed(part))
        return np.stack([found[key] for key in keys])

    async def count_tokens(self, texts: Sequence[str]) -> int:
        """Tokens of all texts together, as the model sees them; raises as `embed` does."""
        facts = await self.warm()
        return await asyncio.to_thread(lambda: sum(map(facts.count_tokens, texts)))

    async def close(self) -> None:
        """Fails what waits with EmbedderClosed, lets a running batch finish and be delivered, ends the thread."""
        self._closed = True
        for job in self._model.close():
            self._settle(job, EmbedderClosed())
        await asyncio.to_thread(self._model.join)

    def stats(self) -> WorkerStats:
        """Counts for metrics; cheap."""
        counts = self._counts
        return WorkerStats(
            **{name: getattr(counts, name) for name in counts.__slots__},
            waiting=self._model.waiting,
            cached=len(self._cache),
            loaded=self._model.facts is not None,
        )

    async def _computed(self, part: Sequence[tuple[bytes, str | None]]) -> dict[bytes, Vectors]:
        jobs = self._enlisted(part)
        try:
            await asyncio.wait([job.done for job in jobs])  # unlike gather, leaves the futures alone when cancelled
        finally:
            self._leave(jobs)
        return {job.key: job.done.result() for job in jobs}

    def _enlisted(self, part: Sequence[tuple[bytes, str | None]]) -> list[_Job]:
        """The jobs of these texts: those pending already, the others queued; all of them or, when refused, none."""
        loop = self._bound_loop()
        jobs = [self._pending.get(key) or _Job(key, text, loop.create_future()) for key, text in part]
        fresh = [job for job in jobs if job.key not in self._pending]
        try:
            self._model.put(fresh)
        except EmbedderBusy:
            self._counts.refused += len(fresh)
            raise
        for job in fresh:
            self._pending[job.key] = job
            job.done.add_done_callback(_seen)
        for job in jobs:
            job.callers += 1
        self._counts.shared += len(jobs) - len(fresh)
        return jobs

    def _leave(self, jobs: Sequence[_Job]) -> None:
        """A text that nobody waits for any more leaves the queue; one already in the model runs on, for the cache."""
        for job in jobs:
            job.callers -= 1
            if not job.callers and not job.done.done() and self._model.withdraw(job):
                del self._pending[job.key]

    def _hand_over(self, jobs: Sequence[_Job], answer: Answer) -> None:
        """In the model's thread: back to the event loop, to which everything else in this class belongs."""
        with suppress(RuntimeError):  # the loop is closed, and with it went all who waited
            jobs[0].done.get_loop().call_soon_threadsafe(self._deliver, jobs, answer)

    def _deliver(self, jobs: Sequence[_Job], answer: Answer) -> None:
        self._counts.batches += answer.texts > 0
        self._counts.largest_batch = max(self._counts.largest_batch, answer.texts)
        self._counts.model_s += answer.model_s
        for job, outcome in zip(jobs, answer.outcomes, strict=True):
            self._settle(job, outcome)

    def _settle(self, job: _Job, outcome: Outcome) -> None:
        self._pending.pop(job.key, None)
        if isinstance(outcome, EmbedderError):
            self._counts.failed += job.text is not None
            job.done.set_exception(outcome)
            return
        job.done.set_result(outcome)
        if job.text is not None:
            self._counts.embedded += 1
            self._remember(job.key, outcome)

    def _cached(self, key: bytes) -> Vectors | None:
        vector = self._cache.get(key)
        if vector is not None:
            self._cache.move_to_end(key)
            self._counts.from_cache += 1
        return vector

    def _remember(self, key: bytes, vector: Vectors) -> None:
        self._cache[key] = vector
        if len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)

    def _bound_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise RuntimeError("an EmbeddingWorker serves one event loop; make another for another loop")
        return loop

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise EmbedderClosed


def _key(text: str) -> bytes:
    # A digest, because a cache of whole prompts would be large; surrogatepass, because JSON can carry lone surrogates.
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _parts(missing: dict[bytes, str], size: int) -> Iterator[list[tuple[bytes, str | None]]]:
    rest = iter(missing.items())
    while part := list(islice(rest, size)):
        yield [(key, text) for key, text in part]


def _seen(done: asyncio.Future[Vectors]) -> None:
    """Takes note of an error, so that asyncio does not log it when its last caller was cancelled."""
    if not done.cancelled():
        done.exception()
