"""A real Redis for tests: without persistence, on a free port, stopped by its process id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_START_S = 10


@dataclass(slots=True)
class RedisServer:
    """One server; `start` and `stop` may be called again and again, the port stays, what it knew is gone."""

    folder: Path
    port: int
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def socket(self) -> Path:
        """Where it listens too."""
        return self.folder / "redis.sock"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        command += ["--dir", str(self.folder), "--unixsocket", str(self.socket), *self.options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, env={**os.environ, **self.environment}
            )
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"redis did not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.01)

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Stop it; all that it knew is lost."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGCONT)
            os.kill(self._process.pid, how)
            self._process.wait(timeout=_START_S)
            self._process = None

    def freeze(self) -> None:
        """Let it hang: connections stay open and are accepted, nothing is answered any more."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGCONT)

    def ask(self, *arguments: str) -> str:
        """One command, as an operator types it; what it answers, as text."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as plain:
            words = b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in arguments)
            plain.sendall(b"*%d\r\n%s" % (len(arguments), words))
            return plain.recv(65_536).decode()

    def _answers(self) -> bool:
        try:
            return self.ask("PING") != ""
        except OSError:
            return False


@pytest.fixture(scope="session")
def redis_running() -> Iterator[RedisServer]:
    """A server for the whole session; skips where Redis is not installed, but fails in CI."""
    yield from _running()


@pytest.fixture
def redis_server(redis_running: RedisServer) -> Iterator[RedisServer]:
    """The same server for each test, running and empty; the test may stop or freeze it."""
    redis_running.ask("FLUSHALL")
    yield redis_running
    redis_running.thaw()
    if not redis_running._answers():
        redis_running.stop()
        redis_running.start()


@pytest.fixture
def locked_redis_server() -> Iterator[RedisServer]:
    """A server that asks for a password, `open-sesame`."""
    yield from _running("--requirepass", "open-sesame")


@contextmanager
def redis_of_its_own(environment: Mapping[str, str]) -> Iterator[RedisServer]:
    """A server with more in its environment."""
    yield from _running(environment=environment)


def _running(*options: str, environment: Mapping[str, str] | None = None) -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        reason = "no redis-server in PATH"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="fingerpost-redis-"))
    server = RedisServer(folder, _free_port(), options, environment or {})
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
