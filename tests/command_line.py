"""`fingerpost` with arguments, each time in a process of its own: a fork of one that has imported the command line.

Importing takes most of a command's time. What a fork can't show, the test of the version shows in a fresh process.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_READY = "ready"


def fingerpost(
    *arguments: str, env: Mapping[str, str], said: str = "", timeout_s: float = 120.0, check: bool = False
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` with captured output; `said` is what the command reads."""
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name) / stream for stream in ("stdin", "stdout", "stderr")]
        files[0].write_text(said)
        order = {"arguments": arguments, "env": dict(env), "cwd": str(Path.cwd()), "files": list(map(str, files))}
        status = _parent().ask(json.dumps(order), timeout_s)
        done = subprocess.CompletedProcess(arguments, int(status), files[1].read_text(), files[2].read_text())
    if check:
        done.check_returncode()
    return done


class _Parent:
    """The process that forks: one command at a time, until its input ends, as it does when this process is gone."""

    def __init__(self) -> None:
        command, pipe = [sys.executable, "-m", "tests.command_line"], subprocess.PIPE
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        self._process = subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
        atexit.register(self.end)
        assert self._answer(60) == _READY

    def ask(self, order: str, timeout_s: float) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        return self._answer(timeout_s)

    def _answer(self, timeout_s: float) -> str:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout_s)[0]:
            self.end()
            _parent.cache_clear()
            raise subprocess.TimeoutExpired(self._process.args, timeout_s)
        return self._process.stdout.readline().strip()

    def end(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        with self._process:
            self._process.wait(10)


@cache
def _parent() -> _Parent:
    return _Parent()


def _fork_on_demand() -> None:
    from gateway.cli.main import main

    print(_READY, flush=True)
    for line in sys.stdin:
        if pid := os.fork():
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
            continue
        order = json.loads(line)
        for number, (file, flags) in enumerate(zip(order["files"], (os.O_RDONLY, _NEW, _NEW), strict=True)):
            os.dup2(os.open(file, flags), number)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.argv[1:] = order["arguments"]
        os.environ.clear()
        os.environ.update(order["env"])
        os.chdir(order["cwd"])
        main()
        return


_NEW = os.O_WRONLY | os.O_CREAT

if __name__ == "__main__":
    _fork_on_demand()
