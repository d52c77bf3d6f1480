"""Memory of the weights' size on huge pages, read at full speed: no model, but the bound of every decode step."""

from __future__ import annotations

import argparse
import ctypes
import mmap
import threading
from pathlib import Path

import numpy as np

from benchmarks.gateway.measure import PROC
from benchmarks.runtime.clock import Stopwatch
from benchmarks.runtime.serve import Answer, run

LINE = 64
STREAMS = 4
HUGE_PAGE = 2 * 1024 * 1024


class Arena:
    """`size` bytes in private anonymous memory; each thread reads a share of its own."""

    def __init__(self, library: Path, size: int) -> None:
        self._library = library
        self._size = size
        self._threads = 1

    def bring(self) -> None:
        """Open the library."""
        self._read_all = ctypes.CDLL(str(self._library)).read_all
        self._read_all.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        self._read_all.restype = ctypes.c_uint64

    def load(self) -> Answer:
        """Map whole huge pages and fill them; tells the share that really lies on huge pages."""
        whole = -(-self._size // HUGE_PAGE) * HUGE_PAGE
        self._map = mmap.mmap(-1, whole + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._map.madvise(mmap.MADV_HUGEPAGE)
        mapped = np.frombuffer(self._map, dtype=np.uint8)
        first = -mapped.ctypes.data % HUGE_PAGE
        self._bytes = mapped[first : first + whole]
        self._bytes[:] = 1
        rollup = (PROC / "self" / "smaps_rollup").read_text().splitlines()
        huge = next(int(line.split()[1]) * 1024 for line in rollup if line.startswith("AnonHugePages:"))
        return {"bytes": self._size, "share_on_huge_pages": min(1.0, huge / whole)}

    def use_threads(self, threads: int) -> None:
        """Readers of the next time."""
        self._threads = threads

    def read(self, passes: int, watch: Stopwatch) -> int:
        """Bytes read by all threads together in `passes` passes."""
        lines = self._size // LINE // self._threads // STREAMS * STREAMS
        together = threading.Barrier(self._threads + 1)
        base = self._bytes.ctypes.data

        def one(number: int) -> None:
            together.wait()
            self._read_all(base + number * lines * LINE, lines, passes)

        readers = [threading.Thread(target=one, args=(number,)) for number in range(self._threads)]
        for reader in readers:
            reader.start()
        self._read_all(base, self._size // LINE, 1)
        watch.start()
        together.wait()
        for reader in readers:
            reader.join()
        watch.stop()
        return lines * LINE * self._threads * passes


def main() -> None:
    """`python -m benchmarks.runtime.model_arena LIBRARY BYTES`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("library", type=Path)
    parser.add_argument("bytes", type=int)
    given = parser.parse_args()
    run(Arena(given.library, given.bytes))


if __name__ == "__main__":
    main()
