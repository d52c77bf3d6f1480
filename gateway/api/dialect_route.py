"""A hot route whose clients speak another dialect than chat; translation happens only where the endpoint needs it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from gateway.api.raw import RawRoute
from gateway.errors import GatewayError
from gateway.incoming import Incoming
from gateway.pipeline import Pipeline
from gateway.wire.chat_request import ChatRequest
from gateway.wire.dialect import Dialect, Writer
from gateway.wire.reply import Frames, OneFrame, Reply


class DialectRoute(RawRoute):
    """Reads by the dialect, asks the pipeline, writes by the dialect."""

    def __init__(self, name: str, dialect: Dialect, pipeline: Pipeline, **floor: Any) -> None:
        super().__init__(name=name, **floor)
        self._dialect = dialect
        self._pipeline = pipeline

    async def handle(self, incoming: Incoming) -> Reply | bytes:
        request = self.read(incoming)
        reply = await self._pipeline.chat(request, incoming)
        if reply.dialect == self._dialect.name:
            return reply
        writer = self._dialect.writer(request, incoming.record.id)
        if not reply.stream:
            body = b"".join([frame async for frame in reply.frames])
            return Reply(OneFrame(writer.whole(body)), stream=False, headers=reply.headers)
        return Reply(_written(reply, writer), stream=True, headers=reply.headers)

    def read(self, incoming: Incoming) -> ChatRequest:
        """The request; a subclass adds what its dialect says in headers."""
        return self._dialect.parse(incoming.body)

    def error_body(self, error: GatewayError, request_id: str) -> bytes:
        return self._dialect.error_body(error, request_id)

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        return self._dialect.error_event(error, request_id)


async def _written(reply: Reply, writer: Writer) -> AsyncGenerator[bytes, None]:
    async with aclosing(reply.frames) as frames:
        async for frame in frames:
            try:
                shown = writer.feed(frame)
            except GatewayError as error:
                await end(frames, error)
                raise
            if shown:
                yield shown
        owed = writer.end()
        if owed:
            yield owed


async def end(frames: Frames, error: GatewayError) -> None:
    """End an answer that can't be written, so that the ledger knows why; frames that take it raise `error`."""
    if isinstance(frames, AsyncGenerator):
        await frames.athrow(error)
