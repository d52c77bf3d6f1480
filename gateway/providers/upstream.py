"""What every vendor's protocol does alike: post a body with an endpoint's headers, and refuse what is no answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass

from gateway.errors import UpstreamBroken
from gateway.providers.base import Target
from gateway.providers.http import HttpClient, HttpReply, Timeouts
from gateway.providers.refusal import refusal, unexpected

Headers = dict[str, str]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What is the same in each call of a target."""

    target: Target
    base_url: str
    headers: Headers
    timeouts: Timeouts


class Upstream:
    """Calls of one protocol; `key_header` and `key_prefix` say how it wants its key, `more` what else it wants."""

    def __init__(
        self,
        client: HttpClient,
        reply_limit: int,
        key_header: str,
        key_prefix: str = "",
        more: Iterable[tuple[str, str]] = (),
    ) -> None:
        self._client = client
        self._reply_limit = reply_limit
        self._key_header = key_header
        self._key_prefix = key_prefix
        self._more = tuple(more)
        self._prepared: dict[str, _Prepared] = {}

    async def post(
        self,
        path: str,
        body: bytes,
        target: Target,
        stream: bool,
        passed_on: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> HttpReply:
        """A 200 of the kind that was asked for; raises `UpstreamError` for all else. `path` follows the base URL."""
        prepared = self._prepared.get(target.endpoint.id)
        if prepared is None or prepared.target is not target:  # another one has another key
            prepared = self._prepare(target)
        headers = {**prepared.headers, **dict(passed_on)} if passed_on else prepared.headers
        reply = await self._client.open(prepared.base_url + path, headers, body, prepared.timeouts)
        if reply.status != 200:
            raise await refusal(reply, target.api_key)
        expected = "text/event-stream" if stream else "json"
        kind = reply.header("Content-Type")
        if expected not in kind.lower():
            reply.cancel()
            raise unexpected(kind, expected, target.api_key)
        return reply

    async def read(self, reply: HttpReply) -> bytes:
        """The whole body, bounded."""
        return await reply.read(self._reply_limit)

    async def whole(self, reply: HttpReply) -> AsyncGenerator[bytes, None]:
        """The one frame of a whole answer; `UpstreamBroken` where it is no JSON object."""
        try:
            body = await reply.read(self._reply_limit)
            if not body.lstrip().startswith(b"{"):
                raise UpstreamBroken("The upstream's answer is not a JSON object.")
            yield body
        finally:
            reply.cancel()

    async def close(self) -> None:
        """Let go of all connections."""
        await self._client.close()

    def _prepare(self, target: Target) -> _Prepared:
        row = target.endpoint
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "fingerpost"}
        headers |= dict(self._more)
        if target.api_key:
            headers[self._key_header] = self._key_prefix + target.api_key
        timeouts = Timeouts(row.connect_timeout_s, row.first_byte_timeout_s, row.idle_timeout_s, row.total_timeout_s)
        prepared = _Prepared(target, (target.base_url or "").rstrip("/"), headers, timeouts)
        self._prepared[row.id] = prepared
        return prepared
