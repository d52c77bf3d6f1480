"""A hand-written HTTP/1.1 client connection that notes when bytes came; knows nothing of schedules or of results.

A general client would cost more than what is measured.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from dataclasses import dataclass, field
from typing import cast

import httptools

EVENT_END = b"\n\n"
DONE_EVENT = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Target:
    """Where and what to send: one POST, always the same."""

    host: str
    port: int
    path: str
    body: bytes
    key: str = ""

    def request(self) -> bytes:
        """The bytes of the request."""
        authorization = f"authorization: Bearer {self.key}\r\n" if self.key else ""
        head = (
            f"POST {self.path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\n{authorization}"
            f"content-type: application/json\r\ncontent-length: {len(self.body)}\r\n\r\n"
        )
        return head.encode() + self.body


@dataclass(slots=True)
class Exchange:
    """One request and what came back; times are time.monotonic() seconds, `error` says why it failed ("" if not).

    `events` counts server-sent events, `[DONE]` included; `gaps_s` holds the time between reads that brought body,
    `opening` the beginning of the body.
    """

    sent_s: float
    status: int = 0
    first_body_s: float = 0.0
    last_body_s: float = 0.0
    ended_s: float = 0.0
    events: int = 0
    done_events: int = 0
    gaps_s: array[float] = field(default_factory=lambda: array("d"))
    opening: bytes = b""
    error: str = ""


class ClientConnection(asyncio.Protocol):
    """One keep-alive connection with one request at a time."""

    def __init__(self) -> None:
        self.usable = False
        self._waiter: asyncio.Future[Exchange] | None = None
        self._exchange: Exchange | None = None
        self._tail = b""
        self._parser = httptools.HttpResponseParser(self)
        self._now = 0.0
        self._noted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.usable = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._end("reset" if exc else "closed early")

    async def exchange(self, request: bytes, timeout_s: float) -> Exchange:
        """Send and wait for the whole answer; failures are named in the result, never raised."""
        loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._waiter = loop.create_future()
        self._tail = b""
        self._exchange = Exchange(time.monotonic())
        self._transport.write(request)
        watchdog = loop.call_later(timeout_s, self._give_up)
        try:
            return await self._waiter
        finally:
            watchdog.cancel()

    @property
    def receiving(self) -> bool:
        """Whether an answer has begun to arrive and has not ended."""
        return self._exchange is not None and self._exchange.events > 0

    def close(self) -> None:
        """Drop the connection."""
        self.usable = False
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._now = time.monotonic()
        self._noted = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._end("not HTTP")
            self.close()

    # called by the parser

    def on_headers_complete(self) -> None:
        if self._exchange is not None:
            self._exchange.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if not exchange.opening:
            exchange.opening = body[:300]
        self._note_arrival(exchange)
        complete, border, self._tail = (self._tail + body).rpartition(EVENT_END)
        if border:
            exchange.events += complete.count(EVENT_END) + 1
            exchange.done_events += (complete + border).count(DONE_EVENT)

    def _note_arrival(self, exchange: Exchange) -> None:
        if self._noted:
            return
        self._noted = True
        if exchange.first_body_s:
            exchange.gaps_s.append(self._now - exchange.last_body_s)
        else:
            exchange.first_body_s = self._now
        exchange.last_body_s = self._now

    def on_message_complete(self) -> None:
        self._end("")
        if not self._parser.should_keep_alive():
            self.close()

    def _give_up(self) -> None:
        self._end("time-out")
        self.close()

    def _end(self, error: str) -> None:
        exchange, waiter = self._exchange, self._waiter
        if exchange is None or waiter is None or waiter.done():
            return
        exchange.ended_s = time.monotonic()
        exchange.error = error
        self._exchange = None
        waiter.set_result(exchange)


async def connect(target: Target) -> ClientConnection | None:
    """Open one connection, or None if that fails."""
    loop = asyncio.get_running_loop()
    try:
        _, connection = await loop.create_connection(ClientConnection, target.host, target.port)
    except OSError:
        return None
    return connection
