"""Which sequence holds which key-value slot. Knows numbers only; the tensors are elsewhere."""

from __future__ import annotations

import heapq


class SlotPool:
    """Numbers 0 .. capacity - 1, the lowest free one first, so that little memory is ever touched.

    `can_acquire` asks, `acquire` acts. Blocks of a paged store will be handed out behind the same two questions.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._free = list(range(capacity))

    def can_acquire(self) -> bool:
        """Whether a slot is free."""
        return bool(self._free)

    def acquire(self) -> int:
        """Take a slot; IndexError when none is free."""
        return heapq.heappop(self._free)

    def release(self, slot: int) -> None:
        """Give a slot back; its contents are stale from now on."""
        if slot in self._free or not 0 <= slot < self.capacity:
            raise ValueError(f"slot {slot} was not taken")
        heapq.heappush(self._free, slot)
