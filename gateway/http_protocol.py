"""uvicorn's httptools protocol with the one thing it lacks: a bound on how long headers may dribble in."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.errors import BodyTimeout, GatewayError, InvalidRequest

_ANSWER = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"


class PatientProtocol(HttpToolsProtocol):
    """Closes a connection whose request line and headers are not complete so many seconds after they began."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_timer: asyncio.TimerHandle | None = None
        self._header_timeout_s: float = getattr(self.config, "header_timeout_s", 10.0)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._header_timer is None:
            self._arm()

    def on_headers_complete(self) -> None:
        self._disarm()
        super().on_headers_complete()

    def _arm(self) -> None:
        self._header_timer = self.loop.call_later(self._header_timeout_s, self._expire)

    def _disarm(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _expire(self) -> None:
        self._header_timer = None
        self._refuse(b"408 Request Timeout", BodyTimeout("The request headers did not arrive in time."))

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP at all is told so in the shape of every other error."""
        self._refuse(b"400 Bad Request", InvalidRequest(msg))

    def _refuse(self, status: bytes, error: GatewayError) -> None:
        if not self.transport.is_closing():
            body = error.body()
            self.transport.write(_ANSWER % (status, len(body), body))
            self.transport.close()
