"""A real PostgreSQL for tests: a throw-away cluster on a free port, stopped by its process id."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_START_S = 30
_ANSWER_S = 30
_EMPTY = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'trial' AND pid <> pg_backend_pid();
DROP SCHEMA public CASCADE;
CREATE SCHEMA public;
"""


@dataclass(slots=True)
class PostgresServer:
    """One cluster; `start` and `stop` may be called again and again, the port stays."""

    folder: Path
    port: int
    user: str
    _process: subprocess.Popen[bytes] | None = field(default=None)

    def url(self, database: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql://{self.user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = {"port": self.port, "fsync": "off", "listen_addresses": "127.0.0.1", "max_connections": 100}
        command = ["postgres", "-D", str(self.folder / "data"), "-k", str(self.folder)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(_unprivileged(command), stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"postgres did not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop it: SIGQUIT breaks every connection at once, SIGINT shuts down cleanly."""
        if self._process is not None:
            self.thaw()
            os.kill(self._process.pid, how)
            self._process.wait(timeout=_START_S)
            self._process = None

    def freeze(self) -> None:
        """Let it hang: connections stay open, nothing is answered any more."""
        for _ in range(2):  # the parent may have had a new child before it was stopped itself
            for pid in self._pids():
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as superuser; returns psql's bare output."""
        target = ["-h", "127.0.0.1", "-p", str(self.port), "-U", self.user, "-d", database]
        command = ["psql", "-X", "-q", "-A", "-t", *target, "-c", statement]
        done = subprocess.run(command, capture_output=True, check=True, timeout=_ANSWER_S)
        return done.stdout.decode().strip()

    def _answers(self) -> bool:
        probe = ["pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", self.user]
        return subprocess.run(probe, check=False, timeout=_ANSWER_S).returncode == 0

    def _pids(self) -> list[int]:
        """The postmaster and its children."""
        if self._process is None:
            return []
        parent = self._process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [parent, *(int(child) for child in children)]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running cluster for the whole session; skips where PostgreSQL is not installed, but fails in CI."""
    missing = [name for name in ("initdb", "postgres", "psql", "pg_isready") if shutil.which(name) is None]
    if missing:
        reason = f"no PostgreSQL in PATH (missing: {', '.join(missing)})"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="fingerpost-pg-"))
    server = PostgresServer(folder, _free_port(), "fingerpost")
    try:
        _create_cluster(server)
        server.start()
        server.sql("CREATE DATABASE trial")
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """A database without tables or connections (the same one for each test, emptied: a new one takes far longer)."""
    postgres_server.sql(_EMPTY, "trial")
    return postgres_server.url("trial")


def _create_cluster(server: PostgresServer) -> None:
    if os.geteuid() == 0:
        owner = _owner()
        os.chown(server.folder, owner.pw_uid, owner.pw_gid)
    command = [
        "initdb",
        "-D",
        str(server.folder / "data"),
        "-U",
        server.user,
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
    ]
    words = _unprivileged([*command, "--no-sync"])
    subprocess.run(words, check=True, capture_output=True, cwd=server.folder, timeout=4 * _ANSWER_S)


def _unprivileged(command: Sequence[str]) -> list[str]:
    """PostgreSQL refuses to run as root; setpriv execs, so that the process keeps the id that we know."""
    if os.geteuid() != 0:
        return list(command)
    owner = _owner()
    return ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups", *command]


def _owner() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return pwd.getpwnam(getpass.getuser())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
