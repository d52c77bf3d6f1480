"""Threads that read experts: what a step waits for first, then what coming layers may want.

They read only; what is there, and what that means, is the pool's to know.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from local_runtime.base import GenerationError
from local_runtime.experts.layout import Key

Urgency = tuple[float, ...]


class Reading(Protocol):
    """What is asked of a store."""

    def read(self, key: Key, into: memoryview) -> None:
        """Fill the memory; ExpertLost where that can't be."""


@dataclass(order=True, slots=True)
class _Job:
    urgency: Urgency
    number: int
    key: Key = field(compare=False)
    into: memoryview = field(compare=False)
    void: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Arrival:
    """An expert that has been read, or why it was not."""

    key: Key
    error: GenerationError | None


class Loader:
    """`threads` read at once; the smallest urgency first."""

    def __init__(self, store: Reading, threads: int) -> None:
        self._store = store
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._queue: list[_Job] = []
        self._queued: dict[Key, _Job] = {}
        self._arrived: deque[Arrival] = deque()
        self._closing = False
        self._threads = [threading.Thread(target=self._live, name=f"experts-{i}", daemon=True) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, urgency: Urgency, key: Key, into: memoryview) -> None:
        """Read an expert; it will be among the arrivals."""
        job = _Job(urgency, next(self._numbers), key, into)
        with self._changed:
            self._queued[key] = job
            heapq.heappush(self._queue, job)
            self._changed.notify_all()

    def hurry(self, urgency: Urgency, key: Key) -> None:
        """Give what is still queued another urgency."""
        with self._changed:
            job = self._queued.get(key)
            if job is not None and urgency < job.urgency:
                job.void = True
                again = _Job(urgency, next(self._numbers), key, job.into)
                self._queued[key] = again
                heapq.heappush(self._queue, again)

    def withdraw(self, unwanted: Callable[[Key], bool]) -> list[Key]:
        """Take back what is still queued and unwanted; it will not arrive."""
        with self._changed:
            back = [key for key in self._queued if unwanted(key)]
            for key in back:
                self._queued.pop(key).void = True
        return back

    def arrivals(self, *, wait: bool) -> list[Arrival]:
        """All that has come since the last time; at least one where `wait` is set and something is on its way."""
        with self._changed:
            while wait and not self._arrived and not self._closing:
                self._changed.wait()
            found = list(self._arrived)
            self._arrived.clear()
        return found

    def close(self) -> None:
        """End the threads, after what they are reading now."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _live(self) -> None:
        while (job := self._next()) is not None:
            error = self._read(job)
            with self._changed:
                self._arrived.append(Arrival(job.key, error))
                self._changed.notify_all()

    def _next(self) -> _Job | None:
        with self._changed:
            while not self._closing:
                while self._queue:
                    job = heapq.heappop(self._queue)
                    if not job.void:
                        del self._queued[job.key]
                        return job
                self._changed.wait()
        return None

    def _read(self, job: _Job) -> GenerationError | None:
        try:
            self._store.read(job.key, job.into)
        except GenerationError as error:
            return error
        return None
