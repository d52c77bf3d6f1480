"""Runs the real command in a real process, waits for its ready line, and stops it by its own pid."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

APPLICATION_KEY = "fp-application-key-for-tests-0123456789"
ADMIN_KEY = "fp-admin-key-for-tests-9876543210"
READY_WITHIN_S = 90.0


@dataclass
class Served:
    """A running gateway; `lines` is what it printed so far."""

    url: str
    process: subprocess.Popen[str]
    data_dir: Path
    lines: list[str] = field(default_factory=list)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {APPLICATION_KEY}"}

    @property
    def admin_headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {ADMIN_KEY}"}

    def stop(self, grace_s: float = 30.0) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(grace_s)


def environment(data_dir: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The caller's environment without any vendor's key, so that no test ever calls a vendor."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    kept = {name: value for name, value in kept.items() if not name.startswith("FINGERPOST_")}
    return kept | {
        "FINGERPOST_DATA_DIR": str(data_dir),
        "FINGERPOST_BOOTSTRAP_KEY": APPLICATION_KEY,
        "FINGERPOST_ADMIN_KEY": ADMIN_KEY,
        "FINGERPOST_LOG_LEVEL": "warning",
        "FINGERPOST_LAME_DUCK_S": "0",
        "OMP_NUM_THREADS": "1",
        **(extra or {}),
    }


@contextmanager
def serving(
    folder: Path,
    *,
    catalogue: str = "",
    policies: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    arguments: tuple[str, ...] = (),
    verb: tuple[str, ...] = ("serve",),
) -> Iterator[Served]:
    """`fingerpost serve`, or another verb that serves, on a free port with these files; killed at the end if it does
    not stop by itself."""
    folder.mkdir(parents=True, exist_ok=True)
    variables = environment(folder / "data", env)
    if catalogue:
        (folder / "catalogue.toml").write_text(catalogue)
        variables["FINGERPOST_CATALOGUE"] = str(folder / "catalogue.toml")
    if policies:
        (folder / "policies").mkdir(exist_ok=True)
        for name, text in policies.items():
            (folder / "policies" / f"{name}.toml").write_text(text)
        variables["FINGERPOST_POLICIES"] = str(folder / "policies")
    command = [sys.executable, "-m", "gateway.cli.main", *verb, "--port", "0", *arguments]
    with (folder / "stderr.log").open("w") as errors:
        process = subprocess.Popen(
            command, env=variables, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
    served, lines = Served("", process, folder / "data"), queue.Queue[str | None]()
    reader = threading.Thread(target=_read, args=(served, lines), daemon=True)
    reader.start()
    try:
        _await_ready(served, lines, folder / "stderr.log")
        yield served
    finally:
        ended(process, reader)


def ended(process: subprocess.Popen[str], reader: threading.Thread) -> None:
    """By SIGTERM; what is left of its group then, such as workers that have outlived their supervisor, by SIGKILL."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
    # The pipe is open as long as anybody in the group is there; to close it here while it is read would wait for them.
    if process.poll() is not None:
        reader.join(2)
    if reader.is_alive():
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        reader.join(10)
    if process.stdout is not None and not reader.is_alive():
        process.stdout.close()


def _await_ready(served: Served, lines: queue.Queue[str | None], errors: Path) -> None:
    while True:
        try:
            line = lines.get(timeout=READY_WITHIN_S)
        except queue.Empty:
            line = None
        if line is None:
            raise AssertionError(f"the gateway did not get ready:\n{errors.read_text()}")
        if line.startswith("ready "):
            served.url = line.split()[1]
            return


def _read(served: Served, lines: queue.Queue[str | None]) -> None:
    assert served.process.stdout is not None
    for line in served.process.stdout:
        served.lines.append(line.rstrip("\n"))
        lines.put(line)
    lines.put(None)
