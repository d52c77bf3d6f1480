"""uvicorn's httptools protocol with the bounds that it lacks: how long a client may dribble, how much a head may hold.

Knows bytes, timers and one connection; must not know routes, keys or what a body says.
"""

from __future__ import annotations

import asyncio
import select
from typing import Any

import httptools
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.errors import BodyTimeout, GatewayError, InvalidRequest, MethodNotAllowed

_ANSWER = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"
_TARGET_BYTES = 8 * 1024
_HEAD_BYTES = 64 * 1024
_HEAD_FIELDS = 200
# At shutdown: how long a connection that nobody was told of is kept for the request that may be on its way.
_LINGER_S = 0.25


class PatientProtocol(HttpToolsProtocol):
    """One connection that holds little and waits for a while: `header_timeout_s` whenever it is the client's turn."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_timer: asyncio.TimerHandle | None = None
        self._header_timeout_s: float = getattr(self.config, "header_timeout_s", 10.0)
        self._in_head = False
        self._moved = False
        self._fed = 0
        self._unmoved = 0
        self._plain_head: bytes | None = None
        self._refused = False
        self._last_words: bytes | None = None
        self._leaving = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; then see to it that a connection on which nothing is being answered has a timer."""
        if self._refused:
            return
        self._unset_keepalive_if_required()
        self._moved = False
        self._fed = len(data)
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as asked:
                self._feed_past_upgrade(memoryview(data)[asked.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
            return
        # The parser keeps an unfinished field to itself, so what it swallows without a result is counted here.
        self._unmoved = 0 if self._moved else self._unmoved + self._fed
        if self._unmoved > _HEAD_BYTES or (self._in_head and len(self.headers) > _HEAD_FIELDS):
            self._refuse_head()
        elif self._header_timer is None and (self._in_head or self._is_idle()):
            self._arm()

    def on_message_begin(self) -> None:
        self._in_head = self._moved = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > _TARGET_BYTES:
            self._refuse(b"414 URI Too Long", InvalidRequest(f"The URL is longer than {_TARGET_BYTES} bytes."))
            raise _Refused

    def on_headers_complete(self) -> None:
        self._in_head, self._moved = False, True
        self._disarm()
        self._check_fields()
        if self.parser.should_upgrade():
            self._plain_head = self._head_without_upgrade()
            return
        super().on_headers_complete()
        if self._leaving:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._moved = True
        if self._plain_head is not None:
            return
        if self.cycle.response_complete:
            # The rest of a body whose answer was quicker: the connection is as good as new.
            self._disarm()
        if len(self.headers) > _HEAD_FIELDS:  # a trailer's fields have joined those of the head
            self._check_fields()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer has left: say what had to wait for it, and don't wait long for the rest of an unread body."""
        super().on_response_complete()
        cycle = self.cycle
        if not cycle.response_complete:
            return
        if self._last_words is not None:
            self._close_with(self._last_words)
        elif cycle.more_body:
            if self.expect_100_continue:
                # Whether the body or the next request comes now is the client's secret.
                self.transport.close()
            elif self._header_timer is None:
                self._arm()
        elif self._leaving:
            self.loop.call_later(_LINGER_S, self._leave)

    def shutdown(self) -> None:
        """The server stops: end this connection where nobody can be sending on it, and say so where that can be said.

        uvicorn's own way closes what is idle although a request may just have arrived, and after an answer that did not
        announce it.
        """
        self._leaving = True
        if self._is_idle():
            self.loop.call_later(_LINGER_S, self._leave)
        elif not self.cycle.response_started:
            self.cycle.keep_alive = False

    def _leave(self) -> None:
        if self.transport.is_closing() or not self._is_idle():
            return
        if self._in_head or self._has_unread():
            self.loop.call_later(_LINGER_S, self._leave)  # the answer to come ends the connection, or a timer does
        else:
            self.transport.close()

    def _has_unread(self) -> bool:
        sock = self.transport.get_extra_info("socket")
        if sock is None or sock.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if cycle.scope["http_version"] in ("1.0", "0.9"):
            app = _without_chunks(cycle, app)
        super()._start_asgi_task(cycle, app)

    def _check_fields(self) -> None:
        # Counted per head and per packet, not per field: that costs nothing, and a packet has 256 KiB at most.
        # Adding up the bytes is only worth its time where so many have come at all.
        if len(self.headers) > _HEAD_FIELDS or (
            self._unmoved + self._fed > _HEAD_BYTES and sum(len(n) + len(v) for n, v in self.headers) > _HEAD_BYTES
        ):
            self._refuse_head()
            raise _Refused

    def _head_without_upgrade(self) -> bytes:
        """The head once more, as if the client had not asked for another protocol (RFC 9110, 7.8 lets us ignore it)."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(b"405 Method Not Allowed", MethodNotAllowed("This is no proxy for CONNECT."))
            raise _Refused
        lines = [b"%s %s HTTP/%s" % (method, self.url, self.parser.get_http_version().encode())]
        lines += [b"%s: %s" % (name, value) for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def _feed_past_upgrade(self, rest: memoryview) -> None:
        # httptools skips the body of a request that asks for an upgrade and can't be told otherwise: a new parser reads
        # the request again without that field.
        while self._plain_head is not None:
            head, self._plain_head = self._plain_head, None
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.parser.feed_data(head)
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as asked:
                rest = rest[asked.args[0] :]

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _arm(self) -> None:
        self._header_timer = self.loop.call_later(self._header_timeout_s, self._expire)

    def _disarm(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _expire(self) -> None:
        self._header_timer = None
        if not self._is_idle():
            self._arm()
        elif self._in_head:
            self._refuse(b"408 Request Timeout", BodyTimeout("The request headers did not arrive in time."))
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP at all is told so in the shape of every other error."""
        self._refuse(b"400 Bad Request", InvalidRequest(msg))

    def _refuse_head(self) -> None:
        self._refuse(
            b"431 Request Header Fields Too Large",
            InvalidRequest(f"The headers have more than {_HEAD_FIELDS} fields or {_HEAD_BYTES} bytes."),
        )

    def _refuse(self, status: bytes, error: GatewayError) -> None:
        """Parse no more; answer and close now, or once the answers that are due before have left."""
        if self._refused:
            return
        self._refused = True
        self._disarm()
        body = error.body()
        words = _ANSWER % (status, len(body), body)
        if self._is_idle() or (self.cycle.more_body and not self.cycle.response_started and not self.pipeline):
            self._close_with(words)
        else:
            self._last_words = words

    def _close_with(self, words: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(words)
            self.transport.close()


class _Refused(Exception):
    """Ends the parser's work from within one of its callbacks; the client has been told, or will be."""


def _without_chunks(cycle: RequestResponseCycle, app: ASGI3Application) -> ASGI3Application:
    """HTTP/1.0 knows no chunks: the end of the connection is the end of the body."""
    cycle.chunked_encoding = False

    async def framed(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        async def send_plain(message: ASGISendEvent) -> None:
            if message["type"] == "http.response.body":
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, send_plain)

    return framed
