"""A bounded memory of ids that were seen lately: what has ended must not be ended again."""

from __future__ import annotations

from collections import deque
from typing import Final

_MOST: Final = 4_096


class Recent:
    """The last `most` ids."""

    __slots__ = ("_ids", "_order")

    def __init__(self, most: int = _MOST) -> None:
        self._ids: set[str] = set()
        self._order: deque[str] = deque(maxlen=most)

    def __contains__(self, one: str) -> bool:
        return one in self._ids

    def add(self, one: str) -> None:
        """Remember an id; the oldest is forgotten where there are too many."""
        if one in self._ids:
            return
        if len(self._order) == self._order.maxlen:
            self._ids.discard(self._order[0])
        self._order.append(one)
        self._ids.add(one)
