"""An OpenAI-compatible server that answers each request with the next of a script, and tells when clients leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.eventually import eventually
from tests.fakes import WHOLE

HANG = b""


def answer(status: int = 200, body: bytes = WHOLE, headers: str = "") -> bytes:
    """A whole HTTP answer of JSON."""
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def fault(status: int, headers: str = "") -> bytes:
    """An error in OpenAI's shape."""
    return answer(status, b'{"error":{"message":"x","type":"t","code":null,"param":null}}', headers)


def first_of_stream() -> bytes:
    """The head and the first event of a stream whose second never comes."""
    event = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%b\r\n" % (len(event), event)


@dataclass
class ScriptedUpstream:
    """`asked_at` and `left_at` are times of the event loop; the script's last line repeats. Nobody is answered before
    `waits_for` requests are there."""

    script: list[bytes]
    port: int = 0
    waits_for: int = 0
    asked_at: list[float] = field(default_factory=list)
    left_at: list[float] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request by request."""
        self.open.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if b"ontent-Length" in line)
                await reader.readexactly(length)
                self.asked_at.append(asyncio.get_running_loop().time())
                await eventually(lambda: len(self.asked_at) >= self.waits_for)
                line = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                writer.write(line)
                self.arrived.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.end(writer)

    async def mute(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection and never say a word on it: TLS handshakes hang."""
        self.open.add(writer)
        try:
            while await reader.read(65_536):
                self.arrived.set()
        except ConnectionError:
            return
        finally:
            self.end(writer)

    def end(self, writer: asyncio.StreamWriter) -> None:
        """A client is gone."""
        self.open.discard(writer)
        writer.close()
        self.left_at.append(asyncio.get_running_loop().time())
        self.left.set()


@asynccontextmanager
async def scripted(*script: bytes, mute: bool = False) -> AsyncIterator[ScriptedUpstream]:
    """A running server on a free port."""
    upstream = ScriptedUpstream(list(script))
    server = await asyncio.start_server(upstream.mute if mute else upstream.serve, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        for writer in tuple(upstream.open):
            writer.transport.abort()
        await eventually(lambda: not upstream.open, every_s=0)
