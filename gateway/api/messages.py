"""`POST /v1/messages` and `POST /v1/messages/count_tokens`: Anthropic's API for its clients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from gateway.api.dialect_route import DialectRoute
from gateway.api.raw import RawRoute, Send
from gateway.describe import describe
from gateway.errors import GatewayError, UnsupportedCapability, UpstreamError
from gateway.incoming import Incoming
from gateway.ledger.record import Record
from gateway.meaning import Meanings, Route
from gateway.pipeline import Pipeline
from gateway.providers.base import CountsTokens, Target
from gateway.wire.chat_request import ChatRequest
from gateway.wire.messages_request import CountEnvelope, MessagesDialect, MessagesEnvelope
from gateway.wire.reply import Reply

# What a client asks of Anthropic beside the body; the provider passes on what is on its list.
PASSED_ON = (b"anthropic-beta",)


class MessagesRoute(DialectRoute):
    """Answers carry `request-id` too, where Anthropic's SDKs look for it."""

    envelope = MessagesEnvelope

    def __init__(self, pipeline: Pipeline, **floor: Any) -> None:
        super().__init__("messages", MessagesDialect(), pipeline, **floor)

    def read(self, incoming: Incoming) -> ChatRequest:
        return _with_headers(super().read(incoming), incoming)

    async def handle(self, incoming: Incoming) -> Reply | bytes:
        reply = await super().handle(incoming)
        if isinstance(reply, Reply):
            reply.headers.append(_request_id(incoming.record))
        return reply

    async def _send_error(self, send: Send, error: GatewayError, record: Record) -> None:
        error.headers = (*error.headers, _request_id(record))
        await super()._send_error(send, error, record)


class CountTokensRoute(RawRoute):
    """Counts with the endpoint that a request names, if that can count; with our own estimate otherwise."""

    envelope = CountEnvelope

    def __init__(self, meanings: Meanings, **floor: Any) -> None:
        super().__init__(name="count_tokens", **floor)
        self._meanings = meanings
        self._dialect = MessagesDialect()

    async def handle(self, incoming: Incoming) -> bytes:
        request = _with_headers(self._dialect.parse_count(incoming.body), incoming)
        request = replace(request, upstream_headers=incoming.passed_on)
        envelope, record = request.envelope, incoming.record
        record.model_requested, record.end_user = envelope.model, envelope.user
        route = self._meanings.of(envelope.model, envelope.models, incoming.caller)
        tokens = await self._counted(request, route, record)
        if tokens is None:
            tokens = describe(request).features.tokens
        record.input_tokens, record.output_tokens = tokens, 0
        return msgspec.json.encode({"input_tokens": tokens})

    async def _counted(self, request: ChatRequest, route: Route, record: Record) -> int | None:
        """By an endpoint of the model that is named; None where none of them can, or it fails."""
        for target in route.targets if route.pinned else ():
            if not isinstance(target.provider, CountsTokens):
                continue
            try:
                tokens = await target.provider.count_tokens(request, target)
            except (UpstreamError, UnsupportedCapability) as error:
                record.attempts.append({"endpoint": target.endpoint.id, "outcome": error.code or "error"})
                continue
            _note(record, target)
            return tokens
        return None

    def error_body(self, error: GatewayError, request_id: str) -> bytes:
        return self._dialect.error_body(error, request_id)

    async def _send_error(self, send: Send, error: GatewayError, record: Record) -> None:
        error.headers = (*error.headers, _request_id(record))
        await super()._send_error(send, error, record)


def _with_headers(request: ChatRequest, incoming: Incoming) -> ChatRequest:
    given = tuple((name.decode(), incoming.text(name)) for name in PASSED_ON if name in incoming.headers)
    if not given or request.original is None:
        return request
    return replace(request, original=replace(request.original, headers=given))


def _note(record: Record, target: Target) -> None:
    record.model, record.endpoint, record.provider = target.card.id, target.endpoint.id, target.endpoint.provider


def _request_id(record: Record) -> tuple[bytes, bytes]:
    return (b"request-id", record.id.encode())
