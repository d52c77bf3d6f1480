"""Starts a worker, asks it one thing at a time, and stops it by its own pid."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
_STOP_S = 10.0


class CannotRun(Exception):
    """A contestant is missing, ended, or did not answer in time; the message is the reason, in one line."""


class Worker:
    """One process that answers a JSON line with a JSON line; its other output goes to `log`."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=clean_environment(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                bufsize=0,
                start_new_session=True,
            )
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def ask(self, do: str, timeout_s: float = 600.0, **values: object) -> dict[str, Any]:
        """The answer to a request; CannotRun when the process ends or is silent for too long."""
        if self._stdin.closed:
            raise CannotRun(f"{self.name} was stopped")
        line = json.dumps({"do": do, **values}).encode() + b"\n"
        try:
            self._stdin.write(line)
        except BrokenPipeError:
            raise self._ended() from None
        answer: dict[str, Any] = json.loads(self._line(time.monotonic() + timeout_s, do))
        return answer

    def last_words(self) -> str:
        """The last line that it wrote, for a message of one line."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip()[:300] if lines else "no output"

    def stop(self) -> None:
        """End its requests, wait, then kill it. Harmless when repeated."""
        self._stdin.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stdout.close()

    def _ended(self) -> CannotRun:
        """The error of a process that has closed its pipes; its last words come after that."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)
        return CannotRun(f"{self.name} ended: {self.last_words()}")

    @property
    def _stdin(self) -> Any:
        return self._process.stdin

    @property
    def _stdout(self) -> Any:
        return self._process.stdout

    def _line(self, until_s: float, do: str) -> bytes:
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._stdout], [], [], max(0.0, until_s - time.monotonic()))
            if not ready:
                raise CannotRun(f"{self.name} did not answer {do!r} in time")
            read = os.read(self._stdout.fileno(), 65536)
            if not read:
                raise self._ended()
            self._rest += read
        line, _, self._rest = self._rest.partition(b"\n")
        return line


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """A small environment, so that a user's settings don't leak into what is measured."""
    return {
        "PATH": os.pathsep.join(os.get_exec_path()),
        "HOME": str(Path.home()),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
        **extra,
    }
