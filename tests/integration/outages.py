"""Ways to break what is no server of its own: the disk, the clock, an upstream that is a process."""

from __future__ import annotations

import ctypes
import os
import resource
import select
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import pytest

_TMPFS_BYTES: Final = 256 * 2**20
_START_S: Final = 60.0


@dataclass(slots=True)
class SmallDisk:
    """A file system of its own, which `fill` leaves without a free byte."""

    folder: Path

    def fill(self) -> None:
        """Nothing can be written any more: ENOSPC."""
        with (self.folder / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 2**20)
        with (self.folder / "rest").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x")

    def free(self) -> None:
        """Undo `fill`."""
        (self.folder / "filler").unlink()
        (self.folder / "rest").unlink()


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """A tmpfs; skips where this process may not mount one, as in most containers."""
    folder.mkdir(parents=True)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, f"size={_TMPFS_BYTES}".encode()) != 0:
        pytest.skip(f"can't mount a tmpfs ({os.strerror(ctypes.get_errno())})")
    try:
        yield SmallDisk(folder)
    finally:
        libc.umount2(bytes(folder), 2)


def limit_files(pid: int, size: int | None) -> None:
    """No file of a process grows beyond `size` bytes (None: as ever); for it that is a disk that fails (EFBIG)."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


@dataclass(slots=True)
class Clock:
    """The wall clock of processes that were started with `env`; their monotonic clock goes on as it is."""

    file: Path
    library: Path

    @property
    def env(self) -> dict[str, str]:
        """What they need in their environment."""
        return {"LD_PRELOAD": str(self.library), "SKEWED_CLOCK": str(self.file)}

    def jump(self, seconds: int) -> None:
        """From now on they are so far ahead of the real time."""
        with self.file.open("r+b") as file:
            file.write(struct.pack("q", seconds))


def movable_clock(folder: Path) -> Clock:
    """Skips where there is no C compiler, but fails in CI."""
    compiler = shutil.which("cc")
    if compiler is None:
        reason = "no C compiler"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    source = Path(__file__).with_name("skewed_clock.c")
    library = folder / "skewed_clock.so"
    command = [str(compiler), "-shared", "-fPIC", "-O1", "-o", str(library), str(source)]
    subprocess.run(command, check=True, timeout=60)
    (folder / "clock").write_bytes(bytes(8))
    return Clock(folder / "clock", library)


@dataclass(slots=True)
class UpstreamProcess:
    """The benchmark's upstream as a process; `stop` and `start` may follow each other, the port stays."""

    port: int = 0
    _process: subprocess.Popen[str] | None = field(default=None)

    def start(self) -> None:
        """Start it and wait until it listens."""
        words = [sys.executable, "-m", "benchmarks.gateway.upstream", "--chunks", "20", "--port", str(self.port)]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], _START_S)[0], "the upstream did not start"
        line = self._process.stdout.readline()
        self.port = int(line.rsplit(":", 1)[1])

    def stop(self) -> None:
        """SIGKILL: connections break, later ones are refused."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate(timeout=10)
            self._process = None

    def freeze(self) -> None:
        """Connections are accepted by the system, nothing is answered."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGCONT)

    def requests(self) -> int:
        """How many requests it has seen since it started."""
        found: int = httpx.get(f"http://127.0.0.1:{self.port}/stats", timeout=10).json()["requests"]
        return found


@contextmanager
def upstream_process() -> Iterator[UpstreamProcess]:
    """Running."""
    process = UpstreamProcess()
    process.start()
    try:
        yield process
    finally:
        process.stop()
