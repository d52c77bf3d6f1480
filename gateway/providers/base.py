"""The seam of every provider: one verb; streaming or not is the reply's business."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from gateway.wire.chat_request import ChatRequest
from gateway.wire.embeddings_request import EmbeddingsRequest
from gateway.wire.reply import Reply
from policies.catalogue import Endpoint, ModelCard


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint with its references resolved; the key never leaves this object but in a header upstream."""

    endpoint: Endpoint
    card: ModelCard
    provider: Provider
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)

    @property
    def wire_model(self) -> str:
        """The name the upstream knows this model by."""
        return self.endpoint.wire_model or self.card.id


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

    async def close(self) -> None:
        """Release connections and threads; idempotent."""
