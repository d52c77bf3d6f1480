"""POSTs to addresses that are no model: a budget's webhook, a collector of traces; by the same guarded client."""

from __future__ import annotations

from gateway.errors import UpstreamError
from gateway.providers.http import HttpClient, Timeouts

_TIMEOUTS = Timeouts(connect_s=3.0, first_byte_s=10.0, idle_s=5.0, total_s=15.0)
_REPLY_BYTES = 64 * 1024


class Poster:
    """Sends a body and reads no more than the status of what comes back."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    async def json(self, url: str, body: bytes) -> int:
        """The status; `UpstreamError` where there is none."""
        return await self._post(url, body, "application/json")

    async def protobuf(self, url: str, body: bytes) -> None:
        """`OSError` where the other side did not take it."""
        try:
            status = await self._post(url, body, "application/x-protobuf")
        except UpstreamError as error:
            raise OSError(error.message) from error
        if status >= 300:
            raise OSError(f"the collector answered {status}")

    async def _post(self, url: str, body: bytes, kind: str) -> int:
        reply = await self._client.open(url, {"Content-Type": kind, "User-Agent": "fingerpost"}, body, _TIMEOUTS)
        try:
            await reply.read(_REPLY_BYTES)
        finally:
            reply.cancel()
        return reply.status
