"""`POST /v1/embeddings`: a named model, here or remote; nothing is routed."""

from __future__ import annotations

from typing import Any

from gateway.admission.rules import Caller
from gateway.api.named import Measured, NamedModelRoute
from gateway.dispatch.fleet import Fleet
from gateway.dispatch.health import Health
from gateway.dispatch.meters.embeddings import EmbeddingsMeter
from gateway.errors import InvalidRequest, ModelNotFound
from gateway.incoming import Incoming
from gateway.providers.base import Target
from gateway.wire.embeddings_request import EmbeddingsEnvelope, parse_embeddings
from policies.catalogue import Task


class EmbeddingsRoute(NamedModelRoute):
    """Vectors of texts."""

    envelope = EmbeddingsEnvelope

    def __init__(self, fleet: Fleet, health: Health, **floor: Any) -> None:
        super().__init__(fleet, health, name="embeddings", **floor)

    async def handle(self, incoming: Incoming) -> bytes:
        request, record = parse_embeddings(incoming.body), incoming.record
        record.model_requested, record.end_user = request.envelope.model, request.envelope.user
        targets = self._able(request.envelope.model, incoming.caller)
        tokens = request.chars // 4

        async def ask(target: Target) -> Measured:
            body = await target.provider.embed(request, target)
            meter = EmbeddingsMeter(target.card, tokens, record.at)
            return Measured(meter.whole(body), meter.settle())

        return await self.first(incoming, targets, tokens, ask)

    def _able(self, model: str, caller: Caller) -> tuple[Target, ...]:
        """The endpoints of an embedding model."""
        card = self._fleet.catalogue.card(model)
        if card is None:
            known = ", ".join(one.id for one in self._fleet.models() if one.task is Task.EMBEDDING)
            raise ModelNotFound(f"There is no embedding model '{model[:120]}'; known: {known}.", param="model")
        if card.task is not Task.EMBEDDING:
            raise InvalidRequest(f"'{model}' is a chat model; it gives no embeddings.", param="model")
        return self.targets(model, caller)
