"""`POST /v1/rerank`: documents in the order of their relevance, by a reranking model or the embedder of this process.

The local one is a bi-encoder: it compares what it makes of query and document apart from each other, which is coarser
than a model that reads them together. Its scores are cosines, -1 to 1.
"""

from __future__ import annotations

from typing import Any

from gateway.admission.rules import Caller
from gateway.api.named import Measured, NamedModelRoute
from gateway.dispatch.fleet import Fleet
from gateway.dispatch.health import Health
from gateway.dispatch.meters.rerank import RerankMeter
from gateway.errors import InvalidRequest, ModelNotFound, UnsupportedCapability
from gateway.incoming import Incoming
from gateway.providers.base import Reranks, Target
from gateway.wire.rerank_request import RerankEnvelope, parse_rerank
from policies.catalogue import Task


class RerankRoute(NamedModelRoute):
    """A named model, here or remote."""

    envelope = RerankEnvelope

    def __init__(self, fleet: Fleet, health: Health, **floor: Any) -> None:
        super().__init__(fleet, health, name="rerank", **floor)

    async def handle(self, incoming: Incoming) -> bytes:
        request, record = parse_rerank(incoming.body), incoming.record
        record.model_requested = request.envelope.model
        targets = self._able(request.envelope.model, incoming.caller)

        async def ask(target: Target) -> Measured:
            if not isinstance(target.provider, Reranks):
                raise UnsupportedCapability(f"Provider '{target.endpoint.provider}' does not rerank.", param="model")
            body = await target.provider.rerank(request, target)
            meter = RerankMeter(target.card, request.chars // 4, record.at)
            return Measured(meter.whole(body), meter.settle())

        return await self.first(incoming, targets, request.chars // 4, ask)

    def _able(self, model: str, caller: Caller) -> tuple[Target, ...]:
        """The endpoints that can rerank by this model."""
        card = self._fleet.catalogue.card(model)
        if card is None:
            known = ", ".join(one.id for one in self._fleet.models() if self._reranks(one.id))
            raise ModelNotFound(f"There is no model '{model[:120]}' that reranks; known: {known}.", param="model")
        if card.task is not Task.RERANK and not self._reranks(model):
            raise InvalidRequest(
                f"'{model}' does not rerank: that takes a model of task 'rerank', or an embedder in this process.",
                param="model",
            )
        targets = self.targets(model, caller)
        return targets if card.task is Task.RERANK else tuple(one for one in targets if _is_local_embedder(one))

    def _reranks(self, model: str) -> bool:
        targets = self._fleet.of_model(model)
        return any(target.card.task is Task.RERANK or _is_local_embedder(target) for target in targets)


def _is_local_embedder(target: Target) -> bool:
    return target.card.task is Task.EMBEDDING and target.endpoint.provider == "local"
