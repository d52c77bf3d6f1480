"""`POST /v1/chat/completions`."""

from __future__ import annotations

from typing import Any

from gateway.admission.keys import Caller
from gateway.api.raw import RawRoute
from gateway.ledger.record import Record
from gateway.pipeline import Pipeline
from gateway.wire.chat_request import parse_chat
from gateway.wire.reply import Reply


class ChatRoute(RawRoute):
    """Parses the wire request and hands it to the pipeline."""

    def __init__(self, pipeline: Pipeline, **floor: Any) -> None:
        super().__init__(name="chat", **floor)
        self._pipeline = pipeline

    async def handle(self, body: bytes, caller: Caller, record: Record, started: float) -> Reply | bytes:
        return await self._pipeline.chat(parse_chat(body), caller, record, started)
