"""Lines that wait on disk until the database is back: segment files, oldest first; knows neither rows nor SQL.

Layout: `root/<start>-<pid>-<random>/000000000001.jsonl`, one folder a process, held by a lock on its `lock` file.
A folder whose process is dead is adopted by the next process that opens the same root. Blocking: call from a thread.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

MAX_BYTES: Final = 256 * 1024 * 1024
SEGMENT_BYTES: Final = 8 * 1024 * 1024
READ_BYTES: Final = 4 * 1024 * 1024
_SUFFIX: Final = ".jsonl"


@dataclass(slots=True)
class _Segment:
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class _Offered:
    """What `read` handed out: up to which byte of the oldest segment, and how many torn lines it passed over."""

    end: int
    torn: int


class Spool:
    """A queue of lines on disk, bounded in bytes: when it is full the newest lines are refused, the oldest kept.

    Durable once `append` returns. `read` and `advance` give every line at least once, in order: after a crash the
    segment that was being read is read again from its start.
    """

    def __init__(self, root: Path, max_bytes: int = MAX_BYTES, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._folder = root / f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}"
        self._segments: deque[_Segment] = deque()
        self._number = 0
        self._tail: IO[bytes] | None = None
        self._head: IO[bytes] | None = None
        self._lock: IO[bytes] | None = None
        self._guard = threading.Lock()
        self._offered = _Offered(0, 0)
        self.bytes = 0
        self.torn = 0

    @property
    def empty(self) -> bool:
        """Whether no line waits."""
        return not self._segments

    def open(self) -> None:
        """Take a folder of our own and adopt those of dead processes; raises `OSError` where `root` is not writable."""
        with self._guard:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(self._root / "adopt.lock"):
                self._folder.mkdir(mode=0o700)
                self._lock = (self._folder / "lock").open("wb")
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for folder in sorted(self._root.iterdir()):
                    if folder.is_dir() and folder != self._folder:
                        self._adopt(folder)
            _sync_folder(self._folder)

    def append(self, lines: Sequence[bytes]) -> int:
        """Keep the lines on disk, flushed; returns how many were kept, the rest found no room.

        Raises `OSError` when the disk refuses; then none of these lines counts as kept.
        """
        with self._guard:
            room = self._max_bytes - self.bytes
            kept = 0
            for line in lines:
                room -= len(line)
                if room < 0:
                    break
                kept += 1
            if kept:
                self._write(b"".join(lines[:kept]))
            return kept

    def read(self, max_lines: int) -> list[bytes]:
        """The oldest lines, at most `max_lines` and about 4 MiB; the same ones again until `advance`."""
        with self._guard:
            while self._segments and self._head is None:
                self._start_reading()
            if self._head is None:
                return []
            start = self._head.tell()
            found = list(_some_lines(self._head, max_lines))
            lines = [line for line in found if line.endswith(b"\n")]
            self._offered = _Offered(self._head.tell(), len(found) - len(lines))
            self._head.seek(start)
            return lines

    def advance(self) -> None:
        """What the last `read` gave is safe elsewhere: go on behind it."""
        with self._guard:
            if self._head is None:
                return
            self.torn += self._offered.torn
            self._head.seek(self._offered.end)
            if self._offered.end >= self._segments[0].size:
                self._head.close()
                self._head = None
                self._forget_oldest()

    def close(self) -> None:
        """Let go of the folder: what still waits is adopted by the next process; an empty folder goes."""
        with self._guard:
            for file in (self._head, self._tail):
                if file is not None:
                    file.close()
            self._head = self._tail = None
            if self._lock is not None:
                with _locked(self._root / "adopt.lock"):
                    if not self._segments:
                        _remove_folder(self._folder)
                    self._lock.close()
                self._lock = None

    def _adopt(self, folder: Path) -> None:
        """Move a dead process's segments behind those adopted before; leave a living one's alone."""
        with (folder / "lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            for path in sorted(folder.glob(f"*{_SUFFIX}")):
                segment = _Segment(self._next_path(), path.stat().st_size)
                path.rename(segment.path)
                self._segments.append(segment)
                self.bytes += segment.size
            _remove_folder(folder)

    def _next_path(self) -> Path:
        self._number += 1
        return self._folder / f"{self._number:012d}{_SUFFIX}"

    def _write(self, payload: bytes) -> None:
        if self._tail is None:
            self._segments.append(_Segment(self._next_path(), 0))
            self._tail = self._segments[-1].path.open("wb", buffering=0)
            _sync_folder(self._folder)
        segment = self._segments[-1]
        try:
            _write_all(self._tail, payload)
            os.fsync(self._tail.fileno())
        except OSError:
            # Half a line may be on disk: cut it off, or else leave it as the torn end of a finished segment.
            with suppress(OSError):
                os.ftruncate(self._tail.fileno(), segment.size)
            self._finish_tail()
            raise
        segment.size += len(payload)
        self.bytes += len(payload)
        if segment.size >= self._segment_bytes:
            self._finish_tail()

    def _finish_tail(self) -> None:
        if self._tail is not None:
            self._tail.close()
            self._tail = None

    def _start_reading(self) -> None:
        if len(self._segments) == 1:
            self._finish_tail()
        try:
            self._head = self._segments[0].path.open("rb")
        except FileNotFoundError:  # someone tidied up; waiting for it would hold back the rest for ever
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        segment = self._segments.popleft()
        segment.path.unlink(missing_ok=True)
        self.bytes -= segment.size


def _some_lines(file: IO[bytes], max_lines: int) -> Iterator[bytes]:
    budget = READ_BYTES
    while max_lines > 0 and budget > 0 and (line := file.readline()):
        yield line
        max_lines -= 1
        budget -= len(line)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_all(file: IO[bytes], payload: bytes) -> None:
    view = memoryview(payload)
    while view:
        view = view[file.write(view) :]


def _sync_folder(folder: Path) -> None:
    """A new file's name is durable only once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_folder(folder: Path) -> None:
    (folder / "lock").unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
