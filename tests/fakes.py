"""Parts that behave well and remember what they were asked; for tests of the parts around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Literal, Self

from gateway.errors import GatewayError, UpstreamBroken
from gateway.providers.base import Target
from gateway.providers.http import Timeouts
from gateway.wire.chat_request import ChatRequest
from gateway.wire.embeddings_request import EmbeddingsRequest
from gateway.wire.reply import Reply
from local_runtime.base import ContextTooLong, Delta, EngineStats, Sampling
from local_runtime.decoding.grammar import Grammar

WHOLE = (
    b'{"id":"c","object":"chat.completion","model":"w","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}'
)


class FakeProvider:
    """Answers each call with the next of `script`: frames, an error to raise, or "hang"; the last one repeats.

    Among the frames, `!text` breaks the stream and `~` makes it hang there.
    """

    def __init__(
        self, *script: list[bytes] | GatewayError | Literal["hang"], after: Callable[[], None] | None = None
    ) -> None:
        self.script = list(script) or [[WHOLE]]
        self.calls: list[str] = []
        self.requests: list[ChatRequest] = []
        self.closed = 0

    async def open(self, request: ChatRequest, target: Target) -> Reply:
        self.calls.append(target.endpoint.id)
        self.requests.append(request)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, GatewayError):
            raise step
        if step == "hang":
            await asyncio.Event().wait()
        assert isinstance(step, list)
        return Reply(frames=self._frames(step), stream=request.stream)

    async def embed(self, request: EmbeddingsRequest, target: Target) -> bytes:
        self.calls.append(target.endpoint.id)
        return b'{"object":"list","data":[],"usage":{"prompt_tokens":2,"total_tokens":2}}'

    async def warm(self, target: Target) -> None:
        self.calls.append(f"warm {target.endpoint.id}")

    async def close(self) -> None:
        self.closed += 1

    async def _frames(self, frames: list[bytes]) -> AsyncGenerator[bytes, None]:
        try:
            for frame in frames:
                if frame.startswith(b"!"):
                    raise _broken(frame)
                if frame == b"~":
                    await asyncio.Event().wait()
                yield frame
        finally:
            self.closed += 1


class FakeHttp:
    """An HTTP client in memory: each call gets these bytes, cut anywhere; `cancelled` counts hang-ups."""

    def __init__(self, body: bytes, content_type: str, status: int = 200, cut: int = 7) -> None:
        self.body, self.content_type, self.status, self.cut = body, content_type, status, cut
        self.sent: list[tuple[str, Mapping[str, str], bytes]] = []
        self.cancelled = 0

    async def open(self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts) -> FakeHttpReply:
        self.sent.append((url, headers, body))
        return FakeHttpReply(self)

    async def close(self) -> None:
        self.cancelled += 1


class FakeHttpReply:
    """One answer of `FakeHttp`."""

    def __init__(self, client: FakeHttp) -> None:
        self._client = client
        self._complete = False
        self.status = client.status

    def header(self, name: str) -> str:
        return self._client.content_type if name.lower() == "content-type" else ""

    async def read(self, limit: int) -> bytes:
        self._complete = True
        return self._client.body

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        for start in range(0, len(self._client.body), self._client.cut):
            yield self._client.body[start : start + self._client.cut]
        self._complete = True

    async def finish(self) -> None:
        self._complete = True

    def cancel(self) -> None:
        if not self._complete:
            self._client.cancelled += 1
            self._complete = True


class ScriptedEngine:
    """A text engine that says the same pieces to everybody, and remembers what it was asked."""

    context_tokens = 100
    fingerprint = "fp_scripted"

    def __init__(self, *pieces: Delta) -> None:
        self.pieces = pieces
        self.prompts: list[Any] = []
        self.samplings: list[Sampling] = []
        self.circles: list[str] = []
        self.priorities: list[int] = []
        self.waits_s = 0.0
        self.schemas: list[str] = []
        self.schema_fault: Exception | None = None
        self.grammars: list[Grammar | None] = []
        self.closed = 0
        self.adapters: list[str] = []

    def adapted(self, adapters: str) -> Self:
        self.adapters.append(adapters)
        return self

    def encode_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        self.prompts.append(messages)
        return [1, 2, 3]

    def grammar(self, schema: str) -> Grammar:
        self.schemas.append(schema)
        if self.schema_fault is not None:
            raise self.schema_fault
        return Grammar(None, 3)  # type: ignore[arg-type]  # nobody looks inside

    def generate(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        circle: str = "",
        grammar: Grammar | None = None,
        priority: int = 0,
    ) -> AsyncIterator[Delta]:
        self.priorities.append(priority)
        self.samplings.append(sampling)
        self.circles.append(circle)
        self.grammars.append(grammar)
        if len(self.pieces) == 0:
            raise ContextTooLong(len(prompt), 2)
        return self._deltas()

    def stats(self) -> EngineStats:
        return EngineStats(running=1, waiting=2, steps=3, tokens_out=4, wait_s=self.waits_s)

    def wait_s(self) -> float:
        return self.waits_s

    def close(self) -> None:
        self.closed += 1

    async def _deltas(self) -> AsyncIterator[Delta]:
        try:
            for piece in self.pieces:
                yield piece
        finally:
            self.closed += 1


def _broken(frame: bytes) -> GatewayError:
    return UpstreamBroken(frame[1:].decode())
