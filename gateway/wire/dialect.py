"""The seam of inbound dialects: every one is read into a chat request and written from chat frames.

Where an endpoint speaks the client's own dialect nothing is translated: the reply says so by its `dialect`.
"""

from __future__ import annotations

from typing import Protocol

from gateway.errors import GatewayError
from gateway.wire.chat_request import ChatRequest


class Writer(Protocol):
    """Turns one answer from the chat dialect into another."""

    def whole(self, body: bytes) -> bytes:
        """A whole answer; `UpstreamBroken` where it can't be read."""

    def feed(self, frame: bytes) -> bytes:
        """One or more whole chat events, `[DONE]` among them, as events of this dialect; may be empty."""

    def end(self) -> bytes:
        """What is owed after the last frame; may be empty."""


class Dialect(Protocol):
    """How one API's clients ask and want to be answered."""

    @property
    def name(self) -> str:
        """As endpoints and replies name it."""

    def parse(self, body: bytes) -> ChatRequest:
        """Validate; `InvalidRequest` names the field in this dialect's own words, `UnsupportedCapability` what no
        endpoint of another dialect could be told only where none of this dialect could be either."""

    def writer(self, request: ChatRequest, request_id: str) -> Writer:
        """For the answer to one request."""

    def error_body(self, error: GatewayError, request_id: str) -> bytes:
        """An error in this dialect's shape."""

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """The event that ends a broken stream so that this dialect's SDKs raise."""
