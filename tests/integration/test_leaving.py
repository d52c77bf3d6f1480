"""What SIGTERM does, step by step, with one process and with workers: nobody is cut off who was not told."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.gateway.upstream import UpstreamServer
from gateway.server import refuse_connections
from tests.integration.conftest import CHUNKS, POLICY, catalogue
from tests.integration.test_proxy_line import HELLO
from tests.serving import Served, serving

ENV = {"UPSTREAM_SECRET": "sk", "FINGERPOST_PRELOAD": "false", "FINGERPOST_LAME_DUCK_S": "1.5"}


@pytest.fixture(params=["1", "2"], ids=["one process", "two workers"])
def leaver(request: pytest.FixtureRequest, upstream: UpstreamServer, tmp_path: Path) -> Iterator[Served]:
    """A gateway of its own, to be stopped."""
    arguments = ("--workers", request.param)
    with serving(
        tmp_path, catalogue=catalogue(upstream), policies={"default": POLICY}, env=ENV, arguments=arguments
    ) as served:
        yield served


def logged(served: Served) -> list[tuple[int, str | None]]:
    """Status and error code of each row in the ledger, in their order."""
    with sqlite3.connect(served.data_dir / "fingerpost.sqlite3") as database:
        return database.execute("select status, error_code from request_log order by at").fetchall()


def ask(client: httpx.Client, **fields: object) -> httpx.Response:
    return client.post("/v1/chat/completions", json={"model": "instant", "messages": HELLO} | fields)


def until_leaving(client: httpx.Client) -> httpx.Response:
    """The first answer that says so; the supervisor needs a moment to tell its workers."""
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        answer = client.get("/health/ready")
        if answer.status_code == 503:
            return answer
        time.sleep(0.01)
    raise AssertionError("it never said that it leaves")


def test_readiness_goes_first_then_connections_and_streams_come_to_their_end(leaver: Served) -> None:
    body = {"model": "typical", "messages": HELLO, "stream": True}
    with (
        httpx.Client(base_url=leaver.url, headers=leaver.headers, timeout=20) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as stream,
    ):
        events = stream.iter_lines()
        first = next(events)
        os.kill(leaver.process.pid, signal.SIGTERM)
        leaving, late = until_leaving(client), ask(client)
        rest = [line for line in events if line]

    assert leaving.json()["status"] == "leaving"
    assert (late.status_code, late.headers["connection"]) == (200, "close")
    assert len([first, *rest]) == CHUNKS + 1
    assert rest[-1] == "data: [DONE]"
    assert leaver.process.wait(20) == 0
    assert sorted(logged(leaver)) == [(200, None), (200, None)]


def test_a_second_signal_cuts_streams_off_and_still_logs_them(leaver: Served) -> None:
    body = {"model": "typical", "messages": HELLO, "stream": True}
    with (
        httpx.Client(base_url=leaver.url, headers=leaver.headers, timeout=20) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as stream,
    ):
        events = stream.iter_lines()
        next(events)
        began = time.monotonic()
        os.kill(leaver.process.pid, signal.SIGTERM)
        until_leaving(client)
        os.kill(leaver.process.pid, signal.SIGTERM)
        with pytest.raises(httpx.RemoteProtocolError):
            list(events)

    assert leaver.process.wait(20) == 0
    assert time.monotonic() - began < 15
    assert logged(leaver) == [(503, "shutting_down")]


@pytest.mark.skipif(sys.platform != "linux", reason="the filter is Linux's")
def test_a_listener_that_is_about_to_close_takes_who_has_knocked_and_nobody_else() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        with socket.create_connection(listener.getsockname()) as early:
            refuse_connections(listener)
            with pytest.raises(TimeoutError):
                socket.create_connection(listener.getsockname(), timeout=0.2)
            early.sendall(b"x")
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.recv(1) == b"x"
