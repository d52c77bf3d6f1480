"""The HTTP client against raw servers that say exactly what the test wants."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnavailable
from gateway.providers.h1_client import H1Client
from gateway.providers.h1_connection import MAX_HEAD_BYTES, PAUSE_ABOVE_BYTES
from gateway.providers.http import Timeouts
from tests.eventually import eventually

QUICK = Timeouts(connect_s=2, first_byte_s=2, idle_s=0.3, total_s=5)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Counts connections and keeps the requests it read."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.connections = 0
        self.gone = asyncio.Event()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self.talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        finally:
            writer.close()


@asynccontextmanager
async def running(talk: Talk) -> AsyncIterator[tuple[Server, H1Client, str]]:
    server = Server(talk)
    listener = await asyncio.start_server(server.accept, "127.0.0.1", 0)
    client = H1Client()
    port = listener.sockets[0].getsockname()[1]
    try:
        yield server, client, f"http://127.0.0.1:{port}/v1/x?y=1"
    finally:
        await client.close()
        listener.close()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


def saying(*answers: bytes, then_close: bool = False) -> Talk:
    """Answer each request with the next of these bytes, the last one for ever."""
    left = list(answers)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()
            if then_close:
                return

    return talk


async def fetch(client: H1Client, url: str, body: bytes = b"{}", timeouts: Timeouts = QUICK) -> bytes:
    reply = await client.open(url, {"Content-Type": "text/plain"}, body, timeouts)
    return await reply.read(10_000_000)


async def test_a_request_is_what_http_says() -> None:
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(OK)

    async with running(talk) as (_, client, url):
        assert await fetch(client, url, b"body") == b"hello"

    host = url.split("/")[2].encode()
    assert seen == [
        b"POST /v1/x?y=1 HTTP/1.1\r\nHost: " + host + b"\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody"
    ]


async def test_a_connection_is_used_again() -> None:
    async with running(saying(OK)) as (server, client, url):
        for _ in range(5):
            assert await fetch(client, url) == b"hello"

    assert server.connections == 1


async def test_many_at_once_each_get_their_own_answer() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            body = (await read_request(reader)).split(b"\r\n\r\n")[1]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async def ask(client: H1Client, url: str, who: int) -> bool:
        return all([await fetch(client, url, b"%d.%d" % (who, turn)) == b"%d.%d" % (who, turn) for turn in range(40)])

    async with running(echo) as (server, client, url):
        async with asyncio.timeout(20):
            assert all(await asyncio.gather(*(ask(client, url, who) for who in range(24))))

    assert server.connections <= 24


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"]
)
async def test_a_connection_that_ends_is_not_used_again(head: bytes) -> None:
    async with running(saying(head + b"hello", then_close=True)) as (server, client, url):
        assert await fetch(client, url) == b"hello"
        assert await fetch(client, url) == b"hello"

    assert server.connections == 2


async def test_an_idle_connection_that_the_upstream_dropped_costs_nothing() -> None:
    async with running(saying(OK, then_close=True)) as (server, client, url):
        for _ in range(3):
            assert await fetch(client, url) == b"hello"

    assert server.connections == 3


@given(cuts=st.lists(st.integers(1, 120), max_size=8))
async def test_any_cut_of_the_bytes_gives_the_same_answer(cuts: list[int]) -> None:
    answer = (
        b"HTTP/1.1 103 Early Hints\r\nX-A: 1\r\n\r\nHTTP/1.1 200 OK\r\nX-A: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    answer += b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"
    places = [0, *sorted({cut for cut in cuts if cut < len(answer)}), len(answer)]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for start, end in itertools.pairwise(places):
            writer.write(answer[start:end])
            await writer.drain()
            await asyncio.sleep(0)

    async with running(talk) as (_, client, url):
        reply = await client.open(url, {}, b"", QUICK)

        assert (reply.status, reply.header("x-a")) == (200, "2")
        assert await reply.read(100) == b"hello!"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", UpstreamUnavailable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", UpstreamUnavailable),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", UpstreamUnavailable),
        (b"SSH-2.0-OpenSSH\r\n", UpstreamBroken),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", UpstreamBroken),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", UpstreamBroken),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", UpstreamBroken),
        (b"HTTP/1.1 200 OK\r\n" + b"X-A: %b\r\n" % (b"y" * MAX_HEAD_BYTES), UpstreamBroken),
    ],
)
async def test_bytes_that_are_no_answer_are_mapped(answer: bytes, error: type[UpstreamError]) -> None:
    async with running(saying(answer, then_close=True)) as (_, client, url):
        with pytest.raises(error):
            await fetch(client, url)


async def test_silence_before_the_first_byte_is_a_timeout_and_the_upstream_is_left() -> None:
    async with running(saying(b"")) as (server, client, url):
        with pytest.raises(UpstreamTimeout):
            await fetch(client, url, timeouts=Timeouts(1, 0.1, 5, 5))

        async with asyncio.timeout(2):
            await server.gone.wait()


async def test_silence_in_the_middle_is_a_timeout_by_its_own_bound() -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"
    async with running(saying(half)) as (_, client, url):
        reply = await client.open(url, {}, b"", Timeouts(1, 60, 0.1, 60))
        blocks = reply.blocks()

        assert await anext(blocks) == b"hello"
        with pytest.raises(UpstreamTimeout):
            await anext(blocks)


async def test_the_readers_own_slowness_is_not_the_upstreams_silence() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        await asyncio.sleep(0.25)
        writer.write(b"world")

    async with running(talk) as (_, client, url):
        reply = await client.open(url, {}, b"", Timeouts(1, 1, 0.1, 5))
        await asyncio.sleep(0.3)

        assert await reply.read(100) == b"helloworld"


async def test_the_whole_call_has_a_bound_too() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.01)

    async with running(talk) as (_, client, url):
        with pytest.raises(UpstreamTimeout):
            await fetch(client, url, timeouts=Timeouts(1, 1, 1, 0.2))


async def test_cancelling_hangs_up() -> None:
    async with running(saying(b"")) as (server, client, url):
        task = asyncio.create_task(fetch(client, url))
        await eventually(lambda: server.connections)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        async with asyncio.timeout(2):
            await server.gone.wait()


async def test_an_answer_sent_ahead_of_its_question_is_never_given_to_anybody() -> None:
    ahead = OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"
    async with running(saying(ahead, OK)) as (server, client, url):
        first, second = await fetch(client, url), await fetch(client, url)

    assert (first, second, server.connections) == (b"hello", b"hello", 2)


async def test_a_large_body_waits_in_the_network_until_it_is_read() -> None:
    size = 40 * PAUSE_ABOVE_BYTES
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
    async with running(saying(head + b"x" * size)) as (_, client, url):
        reply = await client.open(url, {}, b"", Timeouts(2, 2, 2, 20))
        await asyncio.sleep(0.1)
        first = await reply.next_block()

        assert len(first) < 4 * PAUSE_ABOVE_BYTES
        assert len(first) + len(await reply.read(size)) == size


async def test_a_body_over_the_limit_is_refused() -> None:
    async with running(saying(OK)) as (_, client, url):
        reply = await client.open(url, {}, b"", QUICK)
        with pytest.raises(UpstreamBroken):
            await reply.read(4)


async def test_a_header_with_a_line_break_never_leaves() -> None:
    async with running(saying(OK)) as (server, client, url):
        with pytest.raises(UpstreamBroken):
            await client.open(url, {"Authorization": "Bearer x\r\nX-Evil: 1"}, b"", QUICK)

    assert server.connections == 0


async def test_nobody_there_is_unavailable_and_so_is_a_failed_handshake() -> None:
    async def no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"what?")

    async with running(no_tls) as (_, client, url):
        with pytest.raises(UpstreamUnavailable, match="TLS"):
            await fetch(client, url.replace("http:", "https:"))
    with pytest.raises(UpstreamUnavailable, match="reached"):
        await fetch(H1Client(), "http://127.0.0.1:9/")


@pytest.mark.parametrize("trusted", [True, False])
async def test_tls_works_and_a_stranger_is_not_trusted(trusted: bool) -> None:
    authority = trustme.CA()
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_side)
    client_side = ssl.create_default_context()
    if trusted:
        authority.configure_trust(client_side)
    server = Server(saying(OK))
    listener = await asyncio.start_server(server.accept, "localhost", 0, ssl=server_side)
    client = H1Client(client_side)
    url = f"https://localhost:{listener.sockets[0].getsockname()[1]}/"

    if trusted:
        assert await fetch(client, url) == b"hello"
        assert await fetch(client, url) == b"hello"
        assert server.connections == 1
    else:
        with pytest.raises(UpstreamUnavailable, match="TLS"):
            await fetch(client, url)

    await client.close()
    listener.close()
