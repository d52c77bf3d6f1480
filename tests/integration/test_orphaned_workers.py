"""A supervisor that is killed outright: its workers end what they have begun, and nobody holds the port after them."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from benchmarks.gateway.upstream import UpstreamServer
from tests.eventually import comes_true
from tests.integration.conftest import CHUNKS, POLICY, catalogue
from tests.integration.test_proxy_line import HELLO
from tests.integration.test_rolling_restart import workers_of
from tests.serving import serving

ENV = {"UPSTREAM_SECRET": "sk", "FINGERPOST_PRELOAD": "false"}
ENDED_S = 60.0
STREAM = {"model": "paced", "messages": HELLO, "stream": True}


def runs(pid: int) -> bool:
    """Whether a process is there that has not ended; nobody may be there to bury it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_free(url: str) -> bool:
    """Whether somebody else could listen there."""
    address = urlsplit(url)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.hostname, address.port))
        except OSError:
            return False
    return True


def test_workers_whose_supervisor_was_killed_end_their_streams_and_leave_the_port(
    upstream: UpstreamServer, tmp_path: Path
) -> None:
    arguments = ("--workers", "2")
    with serving(
        tmp_path, catalogue=catalogue(upstream), policies={"default": POLICY}, env=ENV, arguments=arguments
    ) as served:
        workers = workers_of(served)
        with (
            httpx.Client(base_url=served.url, headers=served.headers, timeout=20) as client,
            client.stream("POST", "/v1/chat/completions", json=STREAM) as reply,
        ):
            lines = reply.iter_lines()
            seen = [next(lines)]
            served.process.kill()
            served.process.wait(10)
            seen += lines

        assert seen.count("data: [DONE]") == 1 and sum("chat.completion.chunk" in line for line in seen) >= CHUNKS
        assert len(workers) == 2 and comes_true(lambda: not any(map(runs, workers)), ENDED_S)
        assert comes_true(lambda: is_free(served.url))
