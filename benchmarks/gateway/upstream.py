"""A fast OpenAI-compatible upstream: instant, paced and realistic answers, and every way to misbehave.

The first path segment is the mode (`/instant/v1/chat/completions`); `/stats` tells its counters, `/reseed` begins the
sequence of first-byte waits again. Knows nothing of gateways or of load.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import socket
import struct
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import cast

import httptools
import uvloop

from benchmarks.gateway import upstream_bodies as bodies

_STREAM = re.compile(rb'"stream"\s*:\s*true')
_INCLUDE_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
_STALL_AFTER = 3


@dataclass(frozen=True, slots=True)
class Pace:
    """When bytes leave: the first after a log-normal wait, the others at a fixed interval (all in seconds).

    A whole (not streamed) answer leaves when its stream's last chunk would have.
    """

    median_first_byte_s: float = 0.0
    sigma: float = 0.0
    interval_s: float = 0.0

    def first_byte_s(self, dice: random.Random) -> float:
        """Draw one wait for the first byte."""
        return self.median_first_byte_s * dice.lognormvariate(0.0, self.sigma) if self.median_first_byte_s else 0.0


PACES = {
    "instant": Pace(),
    # one event in one packet every 10 ms, at a phase drawn for each stream (timers step by 1 ms): what a gateway
    # pays per token when tokens do not arrive in heaps
    "paced": Pace(interval_s=0.01),
    # a quarter of a large hosted model's usual wait (about half a second), so that a run stays short; sigma 0.5
    # puts p99 at 3.2 medians; 100 tokens a second
    "realistic": Pace(median_first_byte_s=0.12, sigma=0.5, interval_s=0.01),
    # 20 tokens a second: slow enough that hundreds of streams at once fit one core
    "typical": Pace(median_first_byte_s=0.12, sigma=0.5, interval_s=0.05),
}
MODES = (*PACES, *bodies.faults(), "hang", "reset", "half", "stall")


@dataclass(slots=True)
class Stats:
    """What the upstream saw; `cut` counts answers that the client did not wait for."""

    connections: int = 0
    requests: int = 0
    streams: int = 0
    finished: int = 0
    cut: int = 0


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it arrived; header names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Desk:
    """What all connections of one server share. `received` stays empty unless `keep_requests`."""

    bodies: bodies.Bodies
    loop: asyncio.AbstractEventLoop
    keep_requests: bool
    seed: int
    dice: random.Random
    stats: Stats = field(default_factory=Stats)
    received: deque[Received] = field(default_factory=lambda: deque(maxlen=256))
    open: set[UpstreamConnection] = field(default_factory=set)


class UpstreamConnection(asyncio.Protocol):
    """One client connection; answers one request at a time and does not pipeline."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._writes: tuple[bytes, ...] = ()
        self._next = 0
        self._interval_s = 0.0
        self._due_s = 0.0
        self._timer: asyncio.Handle | None = None
        self._busy = False
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._desk.stats.connections += 1
        self._desk.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._desk.open.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._busy:
            self._desk.stats.cut += 1

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    # called by the parser

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers.clear()
        self._body.clear()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._desk.keep_requests:
            self._headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        desk, path, body = self._desk, self._url.decode("latin-1"), b"".join(self._body)
        if path in ("/stats", "/reseed"):
            self._control(path)
            return
        desk.stats.requests += 1
        if desk.keep_requests:
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self._headers}
            desk.received.append(Received(path, headers, body))
        mode = path.split("/", 2)[1]
        self._busy = True
        if mode in PACES and path.endswith("/chat/completions"):
            self._answer(PACES[mode], body)
        else:
            self._misbehave(mode, body)

    def _control(self, path: str) -> None:
        if path == "/reseed":
            self._desk.dice.seed(self._desk.seed)
        self.transport.write(bodies.http_response(200, bodies.compact(asdict(self._desk.stats))))

    # answering

    def _answer(self, pace: Pace, body: bytes) -> None:
        wait_s = pace.first_byte_s(self._desk.dice)
        if _STREAM.search(body):
            self._desk.stats.streams += 1
            self._writes = self._stream_writes(body)
            self._interval_s = pace.interval_s
            # Streams that began together must not tick together: their events would arrive as one heap.
            wait_s += pace.interval_s * self._desk.dice.random()
        else:
            self._writes = (self._desk.bodies.whole,)
            wait_s += pace.interval_s * (len(self._desk.bodies.stream) - 1)
        self._next = 0
        if not wait_s:
            self._due_s = self._desk.loop.time() if self._interval_s else 0.0
            self._write_next()
        else:
            self._due_s = self._desk.loop.time() + wait_s
            self._timer = self._desk.loop.call_at(self._due_s, self._write_next)

    def _stream_writes(self, body: bytes) -> tuple[bytes, ...]:
        # A quoted key inside a message is escaped in JSON, so the expressions match only real keys.
        return self._desk.bodies.stream_with_usage if _INCLUDE_USAGE.search(body) else self._desk.bodies.stream

    def _write_next(self) -> None:
        """Write one event and plan the next: one system call and one packet an event."""
        self._timer = None
        self.transport.write(self._writes[self._next])
        self._next += 1
        if self._next == len(self._writes):
            self._finish()
        elif not self._paused:
            self._plan_next()

    def _plan_next(self) -> None:
        if self._interval_s:
            self._due_s += self._interval_s
            self._timer = self._desk.loop.call_at(self._due_s, self._write_next)
        else:
            self._timer = self._desk.loop.call_soon(self._write_next)

    def _finish(self) -> None:
        self._busy = False
        self._desk.stats.finished += 1
        if not self._parser.should_keep_alive():
            self.transport.close()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._busy and self._timer is None and self._next < len(self._writes):
            self._plan_next()

    # misbehaving

    def _misbehave(self, mode: str, body: bytes) -> None:
        if mode == "hang":
            return
        if mode == "reset":
            self._busy = False
            self._reset()
        elif mode == "half":
            self._busy = False
            self._write_part(body, len(self._desk.bodies.stream) // 2)
            self.transport.close()
        elif mode == "stall":
            self._write_part(body, _STALL_AFTER)
        else:
            self.transport.write(self._desk.bodies.faults.get(mode, bodies.NOT_FOUND))
            self._finish()

    def _write_part(self, body: bytes, events: int) -> None:
        whole = self._desk.bodies.whole
        self.transport.write(
            b"".join(self._stream_writes(body)[:events]) if _STREAM.search(body) else whole[: len(whole) // 2]
        )

    def _reset(self) -> None:
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


@dataclass(frozen=True, slots=True)
class UpstreamServer:
    """A running upstream. `received` holds the last 256 requests, if asked for."""

    host: str
    port: int
    stats: Stats
    received: deque[Received]
    dice: random.Random
    _server: asyncio.Server
    _open: set[UpstreamConnection]

    def base_url(self, mode: str = "instant") -> str:
        """What a catalogue row's `base_url` should say for a mode."""
        return f"http://{self.host}:{self.port}/{mode}/v1"

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        self._server.close()
        for connection in tuple(self._open):
            connection.transport.abort()
        await self._server.wait_closed()


async def start(
    port: int = 0, *, host: str = "127.0.0.1", chunks: int = 100, keep_requests: bool = True, seed: int = 0
) -> UpstreamServer:
    """Listen in the running loop (asyncio's or uvloop's); port 0 takes a free one. `chunks` >= 2 events a stream."""
    loop = asyncio.get_running_loop()
    desk = Desk(bodies.Bodies.of(chunks), loop, keep_requests, seed, random.Random(seed))
    server = await loop.create_server(lambda: UpstreamConnection(desk), host, port, backlog=1024)
    bound = server.sockets[0].getsockname()[1]
    return UpstreamServer(host, bound, desk.stats, desk.received, desk.dice, server, desk.open)


async def _serve(arguments: argparse.Namespace) -> None:
    server = await start(arguments.port, chunks=arguments.chunks, keep_requests=False, seed=arguments.seed)
    print(f"ready http://{server.host}:{server.port}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway.upstream", description=__doc__)
    parser.add_argument("--port", type=int, default=9100, help="0 takes a free one (default 9100)")
    parser.add_argument("--chunks", type=int, default=100, help="events a stream, 2 or more (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first-byte waits (default 0)")
    arguments = parser.parse_args()
    with suppress(KeyboardInterrupt):
        uvloop.run(_serve(arguments))


if __name__ == "__main__":
    main()
