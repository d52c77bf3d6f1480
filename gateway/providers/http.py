"""Our own small interface to HTTP upstreams on the hot path: open, read or stream, cancel.

Any client may stand behind it; `h1_client` does today (docs/decisions/0003).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to connect, until the status line, between two blocks, and overall."""

    connect_s: float
    first_byte_s: float
    idle_s: float
    total_s: float


class HttpReply(Protocol):
    """An answer whose status and headers are in."""

    status: int

    def header(self, name: str) -> str:
        """Value of a header, empty where absent; names are case-insensitive."""

    async def read(self, limit: int) -> bytes:
        """The whole body; `UpstreamBroken` above `limit` bytes or on a cut connection."""

    def blocks(self) -> AsyncIterator[bytes]:
        """The body as the network delivers it; `UpstreamBroken` or `UpstreamTimeout` on failure."""

    async def finish(self) -> None:
        """Read what little may be left after the last event, so that the connection can be used again."""

    def cancel(self) -> None:
        """Close the connection now unless the body was read to its end; idempotent."""


class HttpClient(Protocol):
    """A pooled client; redirects are never followed, cookies never kept."""

    async def open(self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts) -> HttpReply:
        """POST; raises `UpstreamUnavailable` or `UpstreamTimeout` when no status line arrives."""

    async def close(self) -> None:
        """Close all connections."""
