"""`POST /v1/route`: what would be chosen for a chat request and why; nothing is called."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.api.raw import RawRoute
from gateway.incoming import Incoming
from gateway.pipeline import Pipeline
from gateway.strategies.fit import experts_of, tactics_for
from gateway.wire.chat_request import ChatEnvelope, parse_chat
from gateway.wire.explanation import explanation


class ExplainRoute(RawRoute):
    """Takes the same body as a chat completion and answers with the decision."""

    envelope = ChatEnvelope

    def __init__(self, pipeline: Pipeline, **floor: Any) -> None:
        super().__init__(name="route", **floor)
        self._pipeline = pipeline

    async def handle(self, incoming: Incoming) -> bytes:
        request = parse_chat(incoming.body)
        incoming.record.model_requested = request.envelope.model
        route, query, decision = await self._pipeline.decide(request, incoming)
        record, plan = incoming.record, route.active.plan
        tactics = tactics_for(plan, request, query, decision, record, pinned=bool(route.pinned))
        experts = experts_of(tactics, decision)
        return msgspec.json.encode({**explanation(query, decision, record), "experts": experts})
