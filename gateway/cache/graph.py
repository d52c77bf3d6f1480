"""Approximate search for partitions too large to scan: an HNSW graph of serial numbers, grown and pruned by a thread.

Only that thread changes the graph, one vector at a time, so a search waits for one addition at most. It knows no rows:
its owner says which serials still count, and scans what is not yet in the graph.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from threading import Lock, Thread, main_thread
from time import perf_counter, sleep
from typing import TYPE_CHECKING

from gateway.cache.partition import Vector

if TYPE_CHECKING:
    from usearch.index import Index as Hnsw

_log = logging.getLogger("fingerpost.cache")
# Neighbours of a node, and how widely additions and searches look.
_CONNECTIVITY, _WIDE_ADD, _WIDE_SEARCH = 16, 128, 64
_SLICE = 16
_SHORTEST_PAUSE_S = 0.0002


class Graph:
    """Used by one thread beside its own."""

    def __init__(self, dimensions: int, busy_above: int) -> None:
        self._dimensions = dimensions
        self._busy_above = busy_above
        self._todo: deque[tuple[int, Vector | None]] = deque()
        self._done: deque[int] = deque()
        self._graph: Hnsw | None = None
        self._searching = Lock()
        self._starting = Lock()
        self._runs = False
        self.broken = False

    def __len__(self) -> int:
        """How much waits to be put in or taken out."""
        return len(self._todo)

    @property
    def nbytes(self) -> int:
        """What the graph takes, with its own copy of the vectors in half precision."""
        return 0 if self._graph is None else int(self._graph.memory_usage)

    def put(self, serials: Iterable[int], vectors: Iterable[Vector]) -> None:
        """Have vectors added; `taken` tells when they are in."""
        self._todo.extend(zip(serials, vectors, strict=True))
        self._start()

    def discard(self, serial: int) -> None:
        """Have a serial taken out that was put in before."""
        self._todo.append((serial, None))
        self._start()

    def taken(self) -> list[int]:
        """The serials that have come in since the last call."""
        return [self._done.popleft() for _ in range(len(self._done))]

    def search(self, vector: Vector, count: int) -> list[int]:
        """The serials of about the nearest vectors, maybe of some that were discarded a moment ago."""
        if self._graph is None:
            return []
        with self._searching:
            found = self._graph.search(vector, count, threads=1)
        serials: list[int] = found.keys.tolist()
        return serials

    def close(self) -> None:
        """It is not needed any more."""
        self._todo.clear()

    def _start(self) -> None:
        with self._starting:
            if self._runs or self.broken:
                return
            self._runs = True
        # No daemon: the interpreter's end would tear it out of the library's code, and that aborts the process.
        Thread(target=self._work, name="cache-graph").start()

    def _work(self) -> None:
        try:
            while self._goes_on():
                began = perf_counter()
                self._step()
                # As much rest as work: the request threads' core and the lock are free half of the time.
                sleep(max(_SHORTEST_PAUSE_S, perf_counter() - began))
        except (ImportError, RuntimeError, ValueError, MemoryError) as error:
            self.broken = True
            _log.warning("cache: large partitions are scanned whole, there is no graph: %r", error)

    def _goes_on(self) -> bool:
        with self._starting:
            self._runs = bool(self._todo) and main_thread().is_alive()
            return self._runs

    def _step(self) -> None:
        """A slice while nobody searches here for the backlog, one vector otherwise."""
        graph = self._made()
        with self._searching:
            for _ in range(_SLICE if len(self._todo) > self._busy_above else 1):
                try:
                    serial, vector = self._todo.popleft()
                except IndexError:
                    return
                if vector is None:
                    graph.remove(serial)
                else:
                    graph.add(serial, vector, threads=1)
                    self._done.append(serial)

    def _made(self) -> Hnsw:
        if self._graph is None:
            from usearch.index import Index as Hnsw

            self._graph = Hnsw(
                ndim=self._dimensions,
                metric="ip",
                dtype="f16",
                connectivity=_CONNECTIVITY,
                expansion_add=_WIDE_ADD,
                expansion_search=_WIDE_SEARCH,
            )
        return self._graph
