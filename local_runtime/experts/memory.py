"""A place in memory for every expert, of which only those in use take any: places never change, bytes come and go."""

from __future__ import annotations

import ctypes
import mmap
from contextlib import suppress
from typing import Final

from local_runtime.base import GenerationError
from local_runtime.experts.layout import Key, Layout

_HUGE: Final = 2 << 20
_NO_RESERVE: Final = 0x4000 if hasattr(mmap, "MAP_ANONYMOUS") else 0
# Large pages are taken where they waste no more than this share.
_WASTE: Final = 0.1


class Slabs:
    """Of one layout. Memory is taken when a plane is written and given back by `release`; both are exact."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._row = {layer: row for row, layer in enumerate(layout.layers)}
        stored = [layout.stored(plane) for plane in range(len(layout.planes))]
        huge = all(-size % _HUGE <= _WASTE * size for size in stored)
        self._sizes = [-(-size // _HUGE) * _HUGE if huge else size for size in stored]
        self._expert = sum(self._sizes)
        size = self._expert * layout.experts * len(layout.layers) + _HUGE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
        try:
            self._memory = mmap.mmap(-1, size, flags=flags)
        except (OSError, ValueError, OverflowError) as error:
            raise GenerationError(f"the system gives no {size >> 30} GiB of addresses for experts: {error}") from error
        self._anchor = ctypes.c_uint8.from_buffer(self._memory)
        begin = ctypes.addressof(self._anchor)
        self._first = -begin % _HUGE
        self._base = begin
        if hasattr(mmap, "MADV_HUGEPAGE"):
            self._memory.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)

    def bytes_of(self, plane: int) -> int:
        """What a plane takes in memory."""
        return self._sizes[plane]

    def address(self, key: Key, plane: int) -> int:
        """Where a plane lies when it is there."""
        return self._base + self._offset(key, plane)

    def view(self, key: Key, plane: int) -> memoryview:
        """To write a plane as it is stored."""
        begin = self._offset(key, plane)
        return memoryview(self._memory)[begin : begin + self._layout.stored(plane)]

    def release(self, key: Key, plane: int) -> None:
        """Give a plane's memory back to the system."""
        self._memory.madvise(mmap.MADV_DONTNEED, self._offset(key, plane), self._sizes[plane])

    def close(self) -> None:
        """Give all back; nothing may use an address any more."""
        if hasattr(self, "_anchor"):
            del self._anchor
            self._memory.madvise(mmap.MADV_DONTNEED)
            with suppress(BufferError):  # a traceback may still hold a view: the addresses go with it
                self._memory.close()

    def _offset(self, key: Key, plane: int) -> int:
        place = (self._row[key[0]] * self._layout.experts + key[1]) * self._expert
        return self._first + place + sum(self._sizes[:plane])
