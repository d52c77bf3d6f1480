"""OpenAI's responses as an inbound dialect; keeps nothing, so `previous_response_id` is the route's business."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.errors import GatewayError
from gateway.wire.chat_request import ChatRequest
from gateway.wire.responses_items import Item
from gateway.wire.responses_request import parse_responses
from gateway.wire.responses_stream import EventLog, ResponsesWriter, error_fields


class ResponsesDialect:
    """See `Dialect`."""

    name = "responses"

    def parse(self, body: bytes, history: Sequence[Item] = ()) -> ChatRequest:
        """`history` are the items before those of the body, oldest first."""
        return parse_responses(body, history)

    def writer(self, request: ChatRequest, request_id: str) -> ResponsesWriter:
        return ResponsesWriter(request)

    def error_body(self, error: GatewayError, request_id: str) -> bytes:
        return error.body()

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        log = EventLog()
        log.add("error", **error_fields(error, request_id))
        return log.taken()
