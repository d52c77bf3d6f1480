"""What one connection may hold and for how long, at the level of bytes."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

from gateway.server import ServerConfig
from tests.integration.test_proxy_line import HELLO
from tests.serving import Served

PATIENCE_S = 10.0
LIVE = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture
def wire(gateway: Served) -> Iterator[socket.socket]:
    """A bare connection; the gateway under test waits two seconds for headers."""
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        yield connection


def ask(gateway: Served, *fields: str, model: str = "instant", stream: bool = False, version: str = "1.1") -> bytes:
    content = json.dumps({"model": model, "messages": HELLO, "stream": stream}).encode()
    head = [
        f"POST /v1/chat/completions HTTP/{version}",
        "host: x",
        f"authorization: {gateway.headers['Authorization']}",
    ]
    return "\r\n".join([*head, f"content-length: {len(content)}", *fields, "", ""]).encode() + content


def everything(connection: socket.socket) -> bytes:
    """All bytes until the gateway closes; `TimeoutError` where it does not."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def until(connection: socket.socket, end: bytes) -> bytes:
    received = b""
    while end not in received and (part := connection.recv(65536)):
        received += part
    return received


def fields_of(size: int, count: int) -> bytes:
    return b"GET /health/live HTTP/1.1\r\nhost: x\r\n" + (b"x: " + b"a" * size + b"\r\n") * count


@pytest.mark.parametrize(
    "head", [fields_of(1, 300), fields_of(1000, 100) + b"\r\n", fields_of(400_000, 1)], ids=["many", "much", "one long"]
)
def test_headers_beyond_the_bounds_are_431_and_the_end(wire: socket.socket, head: bytes) -> None:
    wire.sendall(head)

    answer, _, content = everything(wire).partition(b"\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert json.loads(content)["error"]["code"] == "invalid_request"


def test_headers_within_the_bounds_are_read(wire: socket.socket) -> None:
    wire.sendall(fields_of(300, 190) + b"\r\n")

    assert until(wire, b"live").startswith(b"HTTP/1.1 200")


def test_a_long_url_is_414(wire: socket.socket) -> None:
    wire.sendall(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nhost: x\r\n\r\n")

    assert everything(wire).startswith(b"HTTP/1.1 414 ")


def test_an_endless_trailer_is_refused(wire: socket.socket, gateway: Served) -> None:
    head = ask(gateway, "transfer-encoding: chunked").partition(b"content-length")[0]
    wire.sendall(head + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx: ")
    began = time.monotonic()
    wire.sendall(b"a" * 600_000)

    assert everything(wire).startswith(b"HTTP/1.1 431 ")
    assert time.monotonic() - began < 1.5


def test_endless_headers_leave_memory_alone(gateway: Served, wire: socket.socket) -> None:
    before = resident_kib(gateway)

    try:
        wire.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(200):
            wire.sendall(b"X: aaaaaa\r\n" * 10_000)
    except OSError:
        pass

    assert resident_kib(gateway) - before < 40_000


def resident_kib(gateway: Served) -> int:
    shown = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(gateway.process.pid)], capture_output=True, check=True, timeout=30
    )
    return int(shown.stdout)


UNREAD = {
    "a refused body": b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5000000\r\n\r\n",
    "a body for a GET": b"GET /health/live HTTP/1.1\r\nhost: x\r\ncontent-length: 5000000\r\n\r\n",
    "no body": LIVE,
}


@pytest.mark.parametrize("more", [b"{", b"\r\n"])
@pytest.mark.parametrize("request_bytes", UNREAD.values(), ids=UNREAD)
def test_a_byte_after_the_answer_does_not_hold_the_connection(
    wire: socket.socket, request_bytes: bytes, more: bytes
) -> None:
    wire.sendall(request_bytes)
    assert until(wire, b"}").startswith(b"HTTP/1.1 ")

    wire.sendall(more)

    assert b"HTTP/1.1 200" not in everything(wire)


def test_a_body_that_comes_after_its_refusal_leaves_the_connection_usable(wire: socket.socket) -> None:
    wire.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n")
    assert until(wire, b"}}").startswith(b"HTTP/1.1 401")

    wire.sendall(b"abcd")
    wire.sendall(LIVE)

    assert until(wire, b"live").startswith(b"HTTP/1.1 200")


def test_an_idle_connection_outlives_the_header_timeout(wire: socket.socket) -> None:
    wire.sendall(LIVE)
    until(wire, b"live")
    wire.settimeout(3)

    with pytest.raises(TimeoutError):
        wire.recv(1)
    wire.sendall(LIVE)

    assert until(wire, b"live").startswith(b"HTTP/1.1 200")


def test_pipelined_requests_are_all_answered_in_order(wire: socket.socket, gateway: Served) -> None:
    closing = LIVE.replace(b"host", b"connection: close\r\nhost")
    wire.sendall(ask(gateway) + LIVE + ask(gateway) + closing)

    answers = everything(wire).split(b"HTTP/1.1 200")[1:]

    assert [b"chat.completion" in answer for answer in answers] == [True, False, True, False]


@pytest.mark.parametrize("rest", [b"GET /health/live HTTP/1.1\r\nhos", b"NONSENSE\r\n\r\n"], ids=["partial", "broken"])
def test_what_follows_a_running_stream_is_refused_only_after_it(
    wire: socket.socket, gateway: Served, rest: bytes
) -> None:
    wire.sendall(ask(gateway, model="paced", stream=True) + rest)

    stream, found, after = everything(wire).partition(b"\r\n0\r\n\r\n")

    assert found and b"[DONE]" in stream and stream.count(b"HTTP/1.1") == 1
    assert after.startswith((b"HTTP/1.1 408", b"HTTP/1.1 400"))


async def slowly(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """An application that streams for six times the header timeout of `impatient`."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(6):
        await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.fixture
def impatient() -> Iterator[socket.socket]:
    """A connection to a server whose answers take longer than it waits for headers."""
    config = ServerConfig(
        slowly, http="gateway.http_protocol:PatientProtocol", ws="none", lifespan="off", log_config=None
    )
    config.header_timeout_s = 0.1
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        with socket.create_connection(listener.getsockname(), timeout=PATIENCE_S) as connection:
            yield connection
        server.should_exit = True
        thread.join(PATIENCE_S)


def test_a_header_timeout_during_an_answer_waits_for_its_end(impatient: socket.socket) -> None:
    impatient.sendall(LIVE + LIVE[:20])

    stream, found, after = everything(impatient).partition(b"\r\n0\r\n\r\n")

    assert found and stream.count(b"part") == 6 and stream.count(b"HTTP/1.1") == 1
    assert after.startswith(b"HTTP/1.1 408")


def test_a_broken_body_is_told_so_at_once(wire: socket.socket, gateway: Served) -> None:
    head = ask(gateway).partition(b"content-length")[0]
    wire.sendall(head + b"transfer-encoding: chunked\r\n\r\nzz\r\n")

    assert everything(wire).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_a_wish_to_upgrade_is_ignored_and_the_body_read(wire: socket.socket, gateway: Served, pieces: int) -> None:
    request = ask(gateway, "connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABk")
    size = -(-len(request) // pieces)

    for at in range(0, len(request), size):
        wire.sendall(request[at : at + size])
    first = until(wire, b"usage")
    wire.sendall(request + request + LIVE)

    assert first.startswith(b"HTTP/1.1 200") and b"chat.completion" in first
    assert until(wire, b"live").count(b"HTTP/1.1 200") == 3


def test_connect_is_no_method_here(wire: socket.socket) -> None:
    wire.sendall(b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org\r\n\r\n")

    assert everything(wire).startswith(b"HTTP/1.1 405")


@pytest.mark.parametrize("stream", [False, True])
def test_an_old_client_gets_no_chunks(wire: socket.socket, gateway: Served, stream: bool) -> None:
    wire.sendall(ask(gateway, stream=stream, version="1.0"))

    head, _, content = everything(wire).partition(b"\r\n\r\n")

    assert b"chunked" not in head and b"connection: close" in head
    assert content.startswith(b"data: {" if stream else b"{") and content.endswith(b"[DONE]\n\n" if stream else b"}")
