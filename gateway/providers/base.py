"""The seam of every provider: one verb; streaming or not is the reply's business."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gateway.wire.chat_request import ChatRequest
from gateway.wire.embeddings_request import EmbeddingsRequest
from gateway.wire.reply import Reply
from gateway.wire.rerank_request import RerankRequest
from local_runtime.base import Delta, EngineStats, Sampling
from local_runtime.decoding.grammar import Grammar
from policies.catalogue import Endpoint, ModelCard

# Providers whose endpoints have a dialect of their own.
NATIVE = {"anthropic": "messages"}


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint with its references resolved; the key never leaves this object but in a header upstream."""

    endpoint: Endpoint
    card: ModelCard
    provider: Provider
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    queue: Queues | None = None

    @property
    def wire_model(self) -> str:
        """The name the upstream knows this model by."""
        return self.endpoint.wire_model or self.card.id

    def wait_ms(self) -> float:
        """How long a call would stand in line if it were made now, where that is known; else 0."""
        return 0.0 if self.queue is None else self.queue.wait_ms(self.wire_model)

    def speaks(self, dialect: str) -> bool:
        """Whether a request of this dialect can be sent as it is."""
        return dialect in self.endpoint.dialects or NATIVE.get(self.endpoint.provider) == dialect


class TextEngine(Protocol):
    """What providers need of `local_runtime.engine.Engine`."""

    context_tokens: int
    fingerprint: str

    def encode_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]: ...
    def grammar(self, schema: str) -> Grammar: ...
    def adapted(self, adapters: str) -> TextEngine: ...
    def generate(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        circle: str = "",
        grammar: Grammar | None = None,
        priority: int = 0,
    ) -> AsyncIterator[Delta]: ...
    def stats(self) -> EngineStats: ...
    def wait_s(self) -> float: ...
    def close(self) -> None: ...


class Vectors(Protocol):
    """What providers need of an embedding worker: unit vectors of shape [texts, dimensions], and token counts."""

    async def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]: ...
    async def count_tokens(self, texts: Sequence[str]) -> int: ...


@runtime_checkable
class Queues(Protocol):
    """A provider that knows how long a call would wait for its turn."""

    def wait_ms(self, wire_model: str) -> float:
        """Milliseconds, by what other calls take; cheap, since every candidate of every decision is asked."""


@runtime_checkable
class CountsTokens(Protocol):
    """A provider that can tell the tokens of a prompt without answering it."""

    async def count_tokens(self, request: ChatRequest, target: Target) -> int:
        """Prompt tokens as this endpoint counts them; raises as `Provider.open` does."""


@runtime_checkable
class Reranks(Protocol):
    """A provider that orders documents by their relevance."""

    async def rerank(self, request: RerankRequest, target: Target) -> bytes:
        """Answer a rerank request with the JSON body in Cohere's and Jina's form; raises as `Provider.open` does."""


class Provider(Protocol):
    """Speaks one protocol to an upstream, or to the runtime in this process.

    `open` sends the request and returns once the upstream has accepted it (status and headers are in). It raises
    only `gateway.errors`: `RefusedUpstream` where the request itself is wrong, an `UpstreamError` where another
    endpoint may do better. Time-outs are those of `target.endpoint`. Cancelling the awaiting task, or closing the
    reply's frames, cancels the upstream call.
    """

    async def open(self, request: ChatRequest, target: Target) -> Reply:
        """Start a chat completion; frames are in OpenAI's chat dialect."""

    async def embed(self, request: EmbeddingsRequest, target: Target) -> bytes:
        """Answer an embeddings request with the JSON body in OpenAI's dialect."""

    async def warm(self, target: Target) -> None:
        """Do beforehand what the first call would wait for; a failure is logged, and the first call meets it again."""

    async def close(self) -> None:
        """Release connections and threads; idempotent."""
