"""`POST /v1/chat/completions`."""

from __future__ import annotations

from typing import Any

from gateway.api.raw import RawRoute
from gateway.incoming import Incoming
from gateway.pipeline import Pipeline
from gateway.wire.chat_request import ChatEnvelope, parse_chat
from gateway.wire.reply import Reply


class ChatRoute(RawRoute):
    """Parses the wire request and hands it to the pipeline."""

    envelope = ChatEnvelope

    def __init__(self, pipeline: Pipeline, **floor: Any) -> None:
        super().__init__(name="chat", **floor)
        self._pipeline = pipeline

    async def handle(self, incoming: Incoming) -> Reply | bytes:
        return await self._pipeline.chat(parse_chat(incoming.body), incoming)
