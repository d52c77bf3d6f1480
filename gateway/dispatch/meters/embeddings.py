"""The meter of embeddings: whole answers only, input tokens only."""

from __future__ import annotations

import msgspec

from gateway.dispatch.meters.base import Usage, price
from gateway.dispatch.meters.chat import usage_shown
from gateway.dispatch.meters.chat_wire import fields_of, read_usage
from policies.catalogue import ModelCard


class EmbeddingsMeter:
    """`prompt_tokens` is our own estimate, which counts where the upstream tells nothing."""

    def __init__(self, card: ModelCard, prompt_tokens: int, at: float | None = None) -> None:
        self._card = card
        self._at = at
        self._usage = Usage(prompt_tokens, estimated=True)

    def whole(self, body: bytes) -> bytes:
        """The same answer with its cost; `UpstreamBroken` for what is none."""
        fields = fields_of(body, "data")
        raw = fields.get("usage")
        self._usage = read_usage(raw) or self._usage
        return msgspec.json.encode(fields | {"usage": usage_shown(raw, self.settle(), self._card)})

    def settle(self) -> Usage:
        """Usage as reported, or our estimate."""
        return price(self._usage, self._card, self._at)
