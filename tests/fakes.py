"""Parts that behave well and remember what they were asked; for tests of the parts around them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from gateway.errors import GatewayError
from gateway.providers.base import Target
from gateway.wire.chat_request import ChatRequest
from gateway.wire.embeddings_request import EmbeddingsRequest
from gateway.wire.reply import Reply

WHOLE = (
    b'{"id":"c","object":"chat.completion","model":"w","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}'
)


class FakeProvider:
    """Answers each call with the next of `script`: frames, or an error to raise; the last one repeats."""

    def __init__(self, *script: list[bytes] | GatewayError, after: Callable[[], None] | None = None) -> None:
        self.script = list(script) or [[WHOLE]]
        self.calls: list[str] = []
        self.closed = 0

    async def open(self, request: ChatRequest, target: Target) -> Reply:
        self.calls.append(target.endpoint.id)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, GatewayError):
            raise step
        return Reply(frames=self._frames(step), stream=request.stream)

    async def embed(self, request: EmbeddingsRequest, target: Target) -> bytes:
        self.calls.append(target.endpoint.id)
        return b'{"object":"list","data":[],"usage":{"prompt_tokens":2,"total_tokens":2}}'

    async def close(self) -> None:
        self.closed += 1

    async def _frames(self, frames: list[bytes]) -> AsyncGenerator[bytes, None]:
        try:
            for frame in frames:
                if frame.startswith(b"!"):
                    raise _broken(frame)
                yield frame
        finally:
            self.closed += 1


def _broken(frame: bytes) -> GatewayError:
    from gateway.errors import UpstreamBroken

    return UpstreamBroken(frame[1:].decode())
