"""The vectors of one partition, however many: scanned whole while they are few, by a graph where they are many.

While a graph grows, or where there can be none, all is scanned: slower, never wrong.
"""

from __future__ import annotations

from math import inf

import numpy as np
import numpy.typing as npt

from gateway.cache.graph import Graph
from gateway.cache.partition import Partition, Rows, Vector

# A scan of fewer is about as fast as a graph; a graph is given up well below, so that it doesn't come and go.
GRAPH_ROWS = 8192
_FEW_ROWS = GRAPH_ROWS // 2
# So many vectors that the graph lacks are scanned beside it.
MOST_BESIDE = 512
# How many are handed to the graph at once, so that neither the copies nor the call are large.
_HANDED = 1024
# How many the graph is asked for, since some may have expired or been removed; where too few are left, all is scanned.
_FOUND = 32
_WAITS, _HANDED_OVER, _IN = 0, 1, 2


class Nearby:
    """Unit vectors in rows 0..len-1; see `Partition` for rows and errors."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self._partition = Partition(dimensions)
        self._serials: _Serials | None = None
        self._may_graph = True

    def __len__(self) -> int:
        return len(self._partition)

    @property
    def nbytes(self) -> int:
        """What the arrays and the graph take."""
        return self._partition.nbytes + (self._serials.graph.nbytes if self._serials else 0)

    @property
    def has_graph(self) -> bool:
        """Whether there is a graph, be it a growing one."""
        return self._serials is not None

    @property
    def graph_wanted(self) -> bool:
        """Whether a graph is yet to grow; until then all is scanned."""
        return self._serials is not None and self._serials.lacking > MOST_BESIDE

    def add(self, vector: Vector, until_s: float = inf) -> int:
        """Append a unit vector; its row."""
        row = self._partition.add(vector, until_s)
        if self._serials is not None:
            self._serials.append()
        self._tend()
        return row

    def remove(self, row: int) -> int:
        """Delete a row: the last row takes its place."""
        moved = self._partition.remove(row)
        if self._serials is not None:
            self._serials.remove(row)
        self._tend()
        return moved

    def search(self, vector: Vector, count: int, floor: float, now_s: float = -inf) -> tuple[Rows, Vector]:
        """The rows of the `count` largest cosines that are at least `floor`, largest first, with the cosines."""
        self._tend()
        if self._serials is None or self.graph_wanted:
            return self._partition.search(vector, count, floor, now_s)
        rows = self._partition.living(self._serials.near(vector), now_s)
        if len(rows) < count:
            return self._partition.search(vector, count, floor, now_s)
        return self._partition.among(rows, vector, count, floor)

    def close(self) -> None:
        """It is not needed any more."""
        if self._serials is not None:
            self._serials.graph.close()
            self._serials = None

    def _tend(self) -> None:
        """Take up what the graph has done, and hand it what it lacks."""
        rows = len(self._partition)
        if self._serials is None:
            if rows <= GRAPH_ROWS or not self._may_graph:
                return
            self._serials = _Serials(Graph(self.dimensions, MOST_BESIDE), rows)
        self._may_graph = not self._serials.graph.broken
        if rows < _FEW_ROWS or not self._may_graph:
            self.close()
        else:
            self._serials.tend(self._partition)


class _Serials:
    """Which row each number of the graph is; numbers are never used twice."""

    def __init__(self, graph: Graph, rows: int) -> None:
        self.graph = graph
        self._next = rows
        self._rows = {serial: serial for serial in range(rows)}
        self._of = np.arange(2 * rows, dtype=np.int64)
        self._states: npt.NDArray[np.int8] = np.zeros(2 * rows, dtype=np.int8)
        self._size = rows
        self.lacking = rows
        self._waiting = rows

    def append(self) -> None:
        """One row more."""
        if self._size == len(self._of):
            self._of = np.concatenate([self._of, self._of])
            self._states = np.concatenate([self._states, self._states])
        self._of[self._size], self._states[self._size] = self._next, _WAITS
        self._rows[self._next] = self._size
        self._next += 1
        self._size += 1
        self.lacking += 1
        self._waiting += 1

    def remove(self, row: int) -> None:
        """A row is gone, the last one in its place."""
        self._size -= 1
        serial, state = int(self._of[row]), self._states[row]
        del self._rows[serial]
        self._waiting -= state == _WAITS
        self.lacking -= state != _IN
        if state != _WAITS:
            self.graph.discard(serial)
        if row != self._size:
            self._of[row], self._states[row] = self._of[self._size], self._states[self._size]
            self._rows[int(self._of[row])] = row

    def tend(self, partition: Partition) -> None:
        """Take up what the graph has done, and hand it what it lacks."""
        for serial in self.graph.taken():
            row = self._rows.get(serial)
            if row is not None:
                self._states[row] = _IN
                self.lacking -= 1
        if self._waiting and len(self.graph) < _HANDED:
            rows = np.flatnonzero(self._states[: self._size] == _WAITS)[:_HANDED]
            self.graph.put(self._of[rows].tolist(), partition.vectors(rows).astype(np.float16))
            self._states[rows] = _HANDED_OVER
            self._waiting -= len(rows)

    def near(self, vector: Vector) -> Rows:
        """The rows that a search has to look at: what the graph finds, and what it lacks."""
        found = [row for serial in self.graph.search(vector, _FOUND) if (row := self._rows.get(serial)) is not None]
        near = np.array(found, dtype=np.intp)
        if self.lacking:
            lacked = np.flatnonzero(self._states[: self._size] != _IN)
            near = np.union1d(near, lacked)
        return near
