"""Memory for as many experts as there is room for, in large pages. It is taken once and used again and again."""

from __future__ import annotations

import ctypes
import mmap
from contextlib import suppress

from local_runtime.base import GenerationError
from local_runtime.experts.layout import BLOCK, Key

_HUGE = 2 << 20


class Slots:
    """`count` places of `size` bytes, a multiple of a block; memory is taken when a place is first written."""

    def __init__(self, size: int, count: int) -> None:
        if size % BLOCK:
            raise ValueError(f"places must be whole blocks of {BLOCK} bytes, not {size}")
        self.size = size
        self._free = list(range(count - 1, -1, -1))
        self._place: dict[Key, int] = {}
        try:
            self._memory = mmap.mmap(-1, size * count + _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except (OSError, ValueError, OverflowError) as error:
            raise GenerationError(f"no memory for {size * count >> 20} MiB of experts: {error}") from error
        self._anchor = ctypes.c_uint8.from_buffer(self._memory)
        self._base = ctypes.addressof(self._anchor)
        self._first = -self._base % _HUGE
        if hasattr(mmap, "MADV_HUGEPAGE"):
            self._memory.madvise(mmap.MADV_HUGEPAGE)

    def take(self, key: Key) -> memoryview:
        """A place for an expert that has none, to write it; IndexError where all are taken."""
        place = self._place[key] = self._free.pop()
        begin = self._first + place * self.size
        return memoryview(self._memory)[begin : begin + self.size]

    def give(self, key: Key) -> None:
        """The expert needs its place no more."""
        self._free.append(self._place.pop(key))

    def address(self, key: Key) -> int:
        """Where an expert lies that has a place."""
        return self._base + self._first + self._place[key] * self.size

    def close(self) -> None:
        """Give all back to the system; nothing may use an address any more."""
        if hasattr(self, "_anchor"):
            del self._anchor
            self._memory.madvise(mmap.MADV_DONTNEED)
            with suppress(BufferError):  # a traceback may still hold a view: the addresses go with it
                self._memory.close()
