"""Starts processes pinned to one core, waits for their word, and stops every one of them by its own pid."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

_STOP_S = 10.0


def cores() -> tuple[int, int]:
    """(core of what is measured, core of load and upstream); the same core twice on a one-core machine."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[1 % len(allowed)]


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """A small environment, so that a user's settings do not leak into what is measured."""
    return {
        "PATH": os.pathsep.join(os.get_exec_path()),
        "HOME": str(Path.home()),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        **extra,
    }


class Started:
    """One process that we started; its output goes to `log`."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._log = log

    @property
    def ended(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._process.poll()

    def last_words(self) -> str:
        """The last line that it wrote, for a message of one line."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip()[:300] if lines else "no output"

    def stop(self) -> None:
        """Ask, wait, then kill what is left of its process group (workers that outlived their parent included)."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


class Processes:
    """Everything that was started; leaving the `with` block stops it, whatever happened."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Started] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for started in reversed(self._started):
            started.stop()

    def start(self, name: str, command: Sequence[str], core: int, environment: Mapping[str, str]) -> Started:
        """Start a process that may run on `core` only, from its first instruction."""
        log = self._folder / f"{name}.log"
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {core})
        try:
            with log.open("wb") as output:
                process = subprocess.Popen(
                    command,
                    env=clean_environment(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        finally:
            os.sched_setaffinity(0, before)
        started = Started(name, process, log)
        self._started.append(started)
        return started
