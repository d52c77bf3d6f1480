"""A lean HTTP/1.1 client behind our HTTP interface: httptools parses, asyncio connects; nothing of models or dialects.

Only what the hot path needs: POST, kept-alive connections, TLS, streaming bodies. No redirects, cookies, proxies or
compression. Why it exists, and what it costs beside a full client: docs/decisions/0003.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.errors import AddressForbidden, UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnavailable
from gateway.outbound import AddressRefused, OutboundGuard
from gateway.providers.h1_connection import H1Connection, H1Reply, Stale
from gateway.providers.http import Timeouts

log = logging.getLogger(__name__)

IDLE_S = 30.0
SAY_AGAIN_S = 60.0
MAX_IDLE_PER_ORIGIN = 512


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection goes."""

    scheme: str
    host: str
    port: int


class H1Client:
    """One pool for all upstreams, last used first; belongs to one event loop."""

    def __init__(self, tls: ssl.SSLContext | None = None, guard: OutboundGuard | None = None) -> None:
        self._tls = tls
        self._guard = guard or OutboundGuard.from_text("loopback")
        self._addresses: dict[str, tuple[Origin, bytes]] = {}
        self._idle: dict[Origin, deque[H1Connection]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._told: dict[Origin, float] = {}
        self._closed = False

    async def open(self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts) -> H1Reply:
        try:
            origin, start = self._addresses.get(url) or self._address(url)
        except ValueError as error:
            raise UpstreamUnavailable("The upstream's URL can't be read.") from error
        message = _message(start, headers, body)
        connection = self._reused(origin)
        if connection is not None:
            try:
                return await connection.send(message, timeouts)
            except Stale:
                # The upstream closed the idle connection while we wrote: nothing of an answer came, so it never began.
                pass
        connection = await self._connect(origin, timeouts)
        try:
            return await connection.send(message, timeouts)
        except Stale as error:
            raise UpstreamUnavailable("The upstream closed the connection without an answer.") from error

    async def close(self) -> None:
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()

    def _address(self, url: str) -> tuple[Origin, bytes]:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        host = (parts.hostname or "").encode("idna").decode()
        port = parts.port or (443 if secure else 80)
        path = parts.path or "/"
        if parts.query:
            path = f"{path}?{parts.query}"
        shown = f"[{host}]" if ":" in host else host
        named = shown if port == (443 if secure else 80) else f"{shown}:{port}"
        start = f"POST {path} HTTP/1.1\r\nHost: {named}\r\n".encode("ascii")
        found = self._addresses[url] = (Origin(parts.scheme, host, port), start)
        return found

    def _reused(self, origin: Origin) -> H1Connection | None:
        connections = self._idle.get(origin)
        oldest = asyncio.get_running_loop().time() - IDLE_S
        while connections:
            connection = connections.pop()
            if connection.is_open and connection.idle_since > oldest:
                return connection
            connection.abort()
        return None

    async def _connect(self, origin: Origin, timeouts: Timeouts) -> H1Connection:
        """A connection to an address that the guard has seen: the name is not resolved a second time."""
        try:
            async with asyncio.timeout(min(timeouts.connect_s, timeouts.total_s)):
                return await self._first_that_answers(origin, await self._guard.resolve(origin.host, origin.port))
        except TimeoutError as error:
            raise UpstreamTimeout("The upstream did not accept a connection in time.") from error
        except AddressRefused as error:
            self._tell(origin, error)
            # Not a word of addresses: clients see this.
            raise AddressForbidden("The upstream's address is not one that may be called.") from None
        except (OSError, UnicodeError) as error:
            raise _unreachable(error) from error

    async def _first_that_answers(self, origin: Origin, addresses: list[str]) -> H1Connection:
        loop = asyncio.get_running_loop()
        tls = self._context() if origin.scheme == "https" else None
        failure: OSError | None = None
        for address in addresses:
            try:
                _, connection = await loop.create_connection(
                    lambda: H1Connection(loop, lambda one: self._release(origin, one)),
                    address,
                    origin.port,
                    ssl=tls,
                    server_hostname=origin.host if tls else None,
                )
            except OSError as error:
                failure = error
            else:
                return connection
        raise failure or OSError(f"{origin.host} has no address")

    def _tell(self, origin: Origin, error: AddressRefused) -> None:
        """The operator reads why, once a minute for each address that the catalogue or a webhook names."""
        now = asyncio.get_running_loop().time()
        if self._told.get(origin, -SAY_AGAIN_S) + SAY_AGAIN_S <= now:
            self._told[origin] = now
            log.error("a call was refused before it was made: %s", error)

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def _release(self, origin: Origin, connection: H1Connection) -> None:
        connections = self._idle.setdefault(origin, deque())
        if self._closed or len(connections) >= MAX_IDLE_PER_ORIGIN:
            connection.abort()
            return
        connections.append(connection)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(IDLE_S, self._sweep)

    def _sweep(self) -> None:
        """Close what lay idle too long, oldest first, and look again while anything is kept."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - IDLE_S
        for connections in self._idle.values():
            while connections and (not connections[0].is_open or connections[0].idle_since <= oldest):
                connections.popleft().abort()
        self._idle = {origin: kept for origin, kept in self._idle.items() if kept}
        self._sweeper = loop.call_later(IDLE_S, self._sweep) if self._idle else None


def _message(start: bytes, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    head = "".join(lines)
    if head.count("\n") != len(lines) or head.count("\r") != len(lines):
        raise UpstreamBroken("A header for the upstream holds a line break; look at the endpoint's key.")
    try:
        return b"%b%bContent-Length: %d\r\n\r\n%b" % (start, head.encode("latin-1"), len(body), body)
    except UnicodeEncodeError as error:
        raise UpstreamBroken("A header for the upstream holds letters beyond Latin-1; look at the key.") from error


def _unreachable(error: OSError | UnicodeError) -> UpstreamError:
    if isinstance(error, ssl.SSLError):
        return UpstreamUnavailable("The TLS handshake with the upstream failed.")
    return UpstreamUnavailable("The upstream can't be reached.")
