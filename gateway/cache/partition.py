"""Search among the vectors of one partition: rows in blocks that come and go, scanned whole.

It knows rows, cosines and until when a row counts, neither texts nor who owns them: the owner keeps its entries in the
same order.
"""

from __future__ import annotations

from math import inf

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]
_FIRST_ROWS = 16
# Growing beyond this many rows copies nothing any more: 6 MB of 384 numbers.
BLOCK_ROWS = 4096


class Partition:
    """Unit vectors in rows 0..len-1."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._blocks = [np.empty((_FIRST_ROWS, dimensions), dtype=np.float32)]
        self._until = np.empty(_FIRST_ROWS)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def nbytes(self) -> int:
        """What the arrays take."""
        return sum(block.nbytes for block in self._blocks) + self._until.nbytes

    def add(self, vector: Vector, until_s: float = inf) -> int:
        """Append a unit vector; its row. `ValueError` for a wrong length or a value that is no number."""
        if vector.shape != (self._dimensions,) or not np.isfinite(vector).all():
            raise ValueError(f"no vector of {self._dimensions} numbers: shape {vector.shape}")
        if self._size == self._room:
            self._resize(2 * self._room if self._room < BLOCK_ROWS else self._room + BLOCK_ROWS)
        self._size += 1
        self._at(self._size - 1)[:] = vector
        self._until[self._size - 1] = until_s
        return self._size - 1

    def remove(self, row: int) -> int:
        """Delete a row: the last row takes its place. The row that has moved there (the same where it was the last)."""
        if not 0 <= row < self._size:
            raise IndexError(row)
        self._size -= 1
        self._at(row)[:] = self._at(self._size)
        self._until[row] = self._until[self._size]
        if self._room > BLOCK_ROWS:
            if self._size + BLOCK_ROWS + BLOCK_ROWS // 2 <= self._room:
                self._resize(self._room - BLOCK_ROWS)
        elif self._room > _FIRST_ROWS and 4 * self._size <= self._room:
            self._resize(self._room // 2)
        return self._size

    def search(self, vector: Vector, count: int, floor: float, now_s: float = -inf) -> tuple[Rows, Vector]:
        """The rows of the `count` largest cosines that are at least `floor`, largest first, with the cosines; of rows
        that count later than `now_s` only."""
        cosines = np.empty(self._size, dtype=np.float32)
        for start in range(0, self._size, BLOCK_ROWS):
            part = cosines[start : start + BLOCK_ROWS]
            np.dot(self._blocks[start // BLOCK_ROWS][: len(part)], vector, out=part)
        rows = self.living(np.flatnonzero(cosines >= floor), now_s)
        return _best(rows, cosines[rows], count)

    def among(self, rows: Rows, vector: Vector, count: int, floor: float) -> tuple[Rows, Vector]:
        """As `search`, of these rows only, whether they still count or not."""
        cosines = self.vectors(rows) @ vector
        near = cosines >= floor
        return _best(rows[near], cosines[near], count)

    def living(self, rows: Rows, now_s: float) -> Rows:
        """Those of these rows that count later than `now_s`."""
        return rows[self._until[rows] > now_s]

    def vectors(self, rows: Rows) -> Vector:
        """A copy of some rows' vectors."""
        taken = np.empty((len(rows), self._dimensions), dtype=np.float32)
        for place, row in enumerate(rows.tolist()):
            taken[place] = self._blocks[row // BLOCK_ROWS][row % BLOCK_ROWS]
        return taken

    @property
    def _room(self) -> int:
        """Always some blocks of full length, or one that is shorter."""
        return (len(self._blocks) - 1) * BLOCK_ROWS + len(self._blocks[-1])

    def _at(self, row: int) -> Vector:
        found: Vector = self._blocks[row // BLOCK_ROWS][row % BLOCK_ROWS]
        return found

    def _resize(self, room: int) -> None:
        """Room for so many rows; only one block that is not full is ever copied."""
        until = np.empty(room)
        until[: self._size] = self._until[: self._size]
        self._until = until
        if room <= BLOCK_ROWS:
            first = np.empty((room, self._dimensions), dtype=np.float32)
            first[: self._size] = self._blocks[0][: self._size]
            self._blocks = [first]
        elif room > BLOCK_ROWS * len(self._blocks):
            self._blocks.append(np.empty((BLOCK_ROWS, self._dimensions), dtype=np.float32))
        else:
            self._blocks.pop()


def _best(rows: Rows, cosines: Vector, count: int) -> tuple[Rows, Vector]:
    """The `count` rows of the largest cosines, largest first."""
    if len(rows) > count:
        best = np.argpartition(-cosines, count - 1)[:count]
        rows, cosines = rows[best], cosines[best]
    order = np.argsort(-cosines, kind="stable")
    return rows[order], cosines[order]
