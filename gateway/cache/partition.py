"""Exact search among the vectors of one partition: a matrix that grows, shrinks by swapping, and is scanned whole.

It knows rows and cosines, neither texts nor who owns them: the owner keeps its entries in the same order.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]
_FIRST_ROWS = 16


class Partition:
    """Unit vectors in rows 0..len-1."""

    def __init__(self, dimensions: int) -> None:
        self._matrix = np.empty((_FIRST_ROWS, dimensions), dtype=np.float32)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, vector: Vector) -> int:
        """Append a unit vector; its row. `ValueError` for a wrong length or a value that is no number."""
        if vector.shape != (self._matrix.shape[1],) or not np.isfinite(vector).all():
            raise ValueError(f"no vector of {self._matrix.shape[1]} numbers: shape {vector.shape}")
        if self._size == len(self._matrix):
            grown = np.empty((2 * self._size, self._matrix.shape[1]), dtype=np.float32)
            grown[: self._size] = self._matrix
            self._matrix = grown
        self._matrix[self._size] = vector
        self._size += 1
        return self._size - 1

    def remove(self, row: int) -> int:
        """Delete a row: the last row takes its place. The row that has moved there (the same where it was the last)."""
        if not 0 <= row < self._size:
            raise IndexError(row)
        self._size -= 1
        self._matrix[row] = self._matrix[self._size]
        return self._size

    def search(self, vector: Vector, count: int, floor: float) -> tuple[Rows, Vector]:
        """The rows of the `count` largest cosines that are at least `floor`, largest first, with the cosines."""
        cosines = self._matrix[: self._size] @ vector
        rows = np.flatnonzero(cosines >= floor)
        if len(rows) > count:
            rows = rows[np.argpartition(-cosines[rows], count - 1)[:count]]
        rows = rows[np.argsort(-cosines[rows], kind="stable")]
        return rows, cosines[rows]
