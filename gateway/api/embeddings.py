"""`POST /v1/embeddings`: a named model, here or remote; nothing is routed."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from gateway.admission.keys import Caller
from gateway.api.raw import RawRoute
from gateway.dispatch.fleet import Fleet
from gateway.dispatch.health import Health
from gateway.dispatch.metering import Meter
from gateway.errors import GatewayError, InvalidRequest, ModelNotAllowed, ModelNotFound, UpstreamError
from gateway.ledger.record import Record
from gateway.providers.base import Target
from gateway.wire.embeddings_request import EmbeddingsRequest, parse_embeddings
from policies.catalogue import Task


class EmbeddingsRoute(RawRoute):
    """Tries the endpoints of the model in the catalogue's order."""

    def __init__(self, fleet: Fleet, health: Health, **floor: Any) -> None:
        super().__init__(name="embeddings", **floor)
        self._fleet = fleet
        self._health = health

    async def handle(self, body: bytes, caller: Caller, record: Record, started: float) -> bytes:
        request = parse_embeddings(body)
        record.model_requested = request.envelope.model
        failure: UpstreamError | None = None
        for target in self._targets(request.envelope.model, caller):
            began = perf_counter()
            attempt: dict[str, Any] = {"endpoint": target.endpoint.id, "outcome": "cancelled"}
            record.attempts.append(attempt)
            try:
                answer = await self._answer(request, target, record)
            except UpstreamError as error:
                failure = error
                attempt["outcome"] = error.code
                self._health.failed(target.endpoint.id, error.retry_after_s)
                continue
            except GatewayError as error:
                attempt["outcome"] = error.detail()["code"]
                raise
            finally:
                attempt["ms"] = round((perf_counter() - began) * 1000, 3)
            attempt["outcome"] = "ok"
            self._health.succeeded(target.endpoint.id, attempt["ms"])
            return answer
        raise failure or ModelNotFound("The model has no endpoint.", param="model")

    def _targets(self, model: str, caller: Caller) -> tuple[Target, ...]:
        card = self._fleet.catalogue.card(model)
        if card is None:
            known = ", ".join(one.id for one in self._fleet.models() if one.task is Task.EMBEDDING)
            raise ModelNotFound(f"There is no embedding model '{model[:120]}'; known: {known}.", param="model")
        if card.task is not Task.EMBEDDING:
            raise InvalidRequest(f"'{model}' is a chat model; it gives no embeddings.", param="model")
        if caller.allowed_models is not None and model not in caller.allowed_models:
            raise ModelNotAllowed(f"This key may not use '{model}'.", param="model")
        targets = self._fleet.of_model(model)
        if not targets:
            raise ModelNotFound(self._fleet.why_not(model), param="model")
        return tuple(sorted(targets, key=lambda target: self._health.paused_s(target.endpoint.id) > 0))

    async def _answer(self, request: EmbeddingsRequest, target: Target, record: Record) -> bytes:
        body = await target.provider.embed(request, target)
        meter = Meter(target.card, request.chars // 4, wants_usage=True)
        answer = meter.embeddings(body)
        usage = meter.settle()
        record.model, record.endpoint, record.provider = target.card.id, target.endpoint.id, target.endpoint.provider
        record.input_tokens, record.output_tokens = usage.input_tokens, 0
        record.cost_nanousd, record.usage_estimated = usage.cost_nanousd, usage.estimated
        return answer
