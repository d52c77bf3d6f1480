"""One kept-alive HTTP/1.1 connection to an upstream, and the answer that is on it. Requests are not pipelined."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import cast

import httptools

from gateway.errors import UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnavailable
from gateway.providers.http import Timeouts

MAX_HEAD_BYTES = 64 * 1024
PAUSE_ABOVE_BYTES = 512 * 1024
FINISH_S = 0.05


class Stale(Exception):
    """A connection that was used before ended before a byte of the answer came."""


class H1Reply:
    """An answer as it arrives; reading is for one task.

    Its state is its own: once it is complete the connection may already carry another one. `waiting_since` is the loop
    time at which a reader began to wait, None while none does: only then does the upstream's silence count.
    """

    __slots__ = (
        "_buffer",
        "_connection",
        "_failure",
        "_headers",
        "_loop",
        "_size",
        "_waiter",
        "complete",
        "status",
        "waiting_since",
    )

    def __init__(self, connection: H1Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop
        self._headers: dict[str, str] = {}
        self._buffer: list[bytes] = []
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._failure: UpstreamError | Stale | None = None
        self.status = 0
        self.complete = False
        self.waiting_since: float | None = None

    def header(self, name: str) -> str:
        return self._headers.get(name.lower(), "")

    async def read(self, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        try:
            while block := await self.next_block():
                parts.append(block)
                size += len(block)
                if size > limit:
                    raise UpstreamBroken(f"The upstream's answer is larger than {limit} bytes.")
        finally:
            self.cancel()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        try:
            while block := await self.next_block():
                yield block
        finally:
            self.cancel()

    async def finish(self) -> None:
        try:
            async with asyncio.timeout(FINISH_S):
                while await self.next_block():
                    pass
        except (TimeoutError, UpstreamError):
            self.cancel()

    def cancel(self) -> None:
        if not self.complete:
            self._connection.abort()

    async def next_block(self) -> bytes:
        """What has arrived since the last call; empty at the end. Raises what went wrong."""
        while not self._buffer:
            if self.complete:
                return b""
            await self.wait()
        buffer, self._buffer = self._buffer, []
        if self._size > PAUSE_ABOVE_BYTES and not self.complete:
            self._connection.resume()
        self._size = 0
        return buffer[0] if len(buffer) == 1 else b"".join(buffer)

    async def wait(self) -> None:
        """Until something happens on the connection; raises where that is a failure."""
        if self._failure is None:
            self._waiter = self._loop.create_future()
            self.waiting_since = self._loop.time()
            try:
                await self._waiter
            finally:
                self._waiter = self.waiting_since = None
        if self._failure is not None:
            raise self._failure

    def add_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; the first of several counts."""
        self._headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))

    def forget_headers(self) -> None:
        """Those of an interim answer do not count."""
        self._headers.clear()

    def add(self, block: bytes) -> int:
        """Keep a piece of the body; returns how much waits to be read."""
        self._buffer.append(block)
        self._size += len(block)
        self.wake()
        return self._size

    def fail(self, failure: UpstreamError | Stale) -> None:
        """End with an error; what arrived before can still be read."""
        if self._failure is None and not self.complete:
            self._failure = failure
            self.wake()

    def wake(self) -> None:
        """Let the reader look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class H1Connection(asyncio.Protocol):
    """Sends one request at a time; gives itself back through `release` when an answer ended well."""

    def __init__(self, loop: asyncio.AbstractEventLoop, release: Callable[[H1Connection], None]) -> None:
        self._loop = loop
        self._release = release
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._reply: H1Reply | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timeouts: Timeouts | None = None
        self._deadline = 0.0
        self._head_bytes = 0
        self._used = False
        self.idle_since = 0.0

    @property
    def is_open(self) -> bool:
        """Whether a request can be written."""
        return self._transport is not None and not self._transport.is_closing()

    async def send(self, message: bytes, timeouts: Timeouts) -> H1Reply:
        """Write a request; returns when status and headers are in. `Stale` on a used connection that had ended."""
        reply = self._reply = H1Reply(self, self._loop)
        self._head_bytes = 0
        self._timeouts = timeouts
        self._deadline = self._loop.time() + timeouts.total_s
        self._timer = self._loop.call_later(min(timeouts.first_byte_s, timeouts.total_s), self._check_time)
        if self._transport is not None:
            self._transport.write(message)
        try:
            while not reply.status:
                await reply.wait()
        except BaseException:
            reply.cancel()
            raise
        return reply

    def resume(self) -> None:
        """The reader has made room."""
        if self.is_open:
            cast(asyncio.Transport, self._transport).resume_reading()

    def abort(self) -> None:
        """Close at once, telling the upstream so."""
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()

    def _check_time(self) -> None:
        """One lazy timer a request: it looks how long the upstream has been silent, and sleeps again for the rest."""
        timeouts, reply, now = self._timeouts, self._reply, self._loop.time()
        if timeouts is None or reply is None:
            return
        allowed = timeouts.idle_s if reply.status else timeouts.first_byte_s
        since = now if reply.waiting_since is None else reply.waiting_since
        ends = min(since + allowed, self._deadline)
        if now >= ends - 0.001:
            when = "in the middle of its answer" if reply.status else "before its first byte"
            reply.fail(UpstreamTimeout(f"The upstream stayed silent {when} for longer than its time-out."))
            self.abort()
            return
        self._timer = self._loop.call_at(ends, self._check_time)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _broken(self, message: str) -> None:
        if self._reply is not None:
            self._reply.fail(UpstreamBroken(message))
        self.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:
            self.abort()  # nobody asked
            return
        if not reply.status:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._broken("The upstream broke the HTTP protocol.")
        if not reply.status and self._head_bytes > MAX_HEAD_BYTES:
            self._broken(f"The upstream sent more than {MAX_HEAD_BYTES} bytes of headers.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        reply, self._reply = self._reply, None
        if reply is None:
            return
        if not reply.status:
            reply.fail(Stale() if self._used else UpstreamUnavailable("The upstream hung up before its first byte."))
        elif exc is None and not reply.header("content-length") and not reply.header("transfer-encoding"):
            reply.complete = True  # such a body lasts until the connection ends (RFC 9112, 6.3)
            reply.wake()
        else:
            reply.fail(UpstreamUnavailable("The connection to the upstream was lost in the middle of its answer."))

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self._reply is None:
            self.abort()  # an answer to a question that was not asked yet must never meet one

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reply is not None:
            self._reply.add_header(name, value)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._reply is None:
            return
        if status < 200:
            self._reply.forget_headers()  # an interim answer; the real one follows
            return
        self._reply.status = status
        if self._reply.header("content-encoding") not in ("", "identity"):
            self._broken("The upstream compressed its answer, which it was not asked to.")
            return
        self._reply.wake()
        if self._timeouts is not None:
            self._stop_timer()
            self._timer = self._loop.call_later(self._timeouts.idle_s, self._check_time)

    def on_body(self, body: bytes) -> None:
        if self._reply is not None and self._reply.add(body) > PAUSE_ABOVE_BYTES and self._transport is not None:
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        reply = self._reply
        if reply is None or not reply.status:
            return
        self._reply = None
        self._stop_timer()
        self.resume()
        reply.complete = True
        reply.wake()
        if self._parser.should_keep_alive() and self.is_open:
            self._used = True
            self.idle_since = self._loop.time()
            self._release(self)
        else:
            self.abort()
