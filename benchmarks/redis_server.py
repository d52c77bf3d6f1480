"""A local Redis for benchmarks: a given one, or one of our own without persistence on another core."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.gateway.processes import Processes, cores, free_port

_START_S = 10.0


@contextmanager
def redis_url(given: str | None) -> Iterator[str]:
    """The URL of a Redis that answers; ends our own afterwards."""
    if given is not None:
        yield given
        return
    if shutil.which("redis-server") is None:
        raise SystemExit("redis-server is not installed; name a Redis with --redis-url")
    with tempfile.TemporaryDirectory(prefix="fingerpost-bench-") as folder, Processes(Path(folder)) as processes:
        port = free_port()
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        started = processes.start("redis", command, cores()[1], {})
        deadline = time.monotonic() + _START_S
        while "Ready to accept" not in (Path(folder) / "redis.log").read_text():
            if started.ended is not None or time.monotonic() > deadline:
                raise SystemExit(f"redis-server did not start: {started.last_words()}")
            time.sleep(0.01)
        yield f"redis://127.0.0.1:{port}/0"
