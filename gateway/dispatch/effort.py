"""How hard a model that reasons is asked to think, where the client left that open. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.wire.chat_request import ChatRequest
from gateway.wire.reasoning_effort import says_effort, with_effort
from policies.catalogue import ModelCard
from policies.schema import EffortLevel
from routers.decision import Forecast

Level = Literal["low", "medium", "high"]


@dataclass(frozen=True, slots=True)
class EffortRule:
    """What a policy says for one category; see `policies.schema.Effort`."""

    level: EffortLevel
    low_above: float
    high_below: float

    def of(self, forecast: Forecast) -> Level:
        """The level for one model's answer to one query: an easy query, which it is forecast to answer well, needs
        little thought; one unlike all that the router has learned gets the middle."""
        if self.level != "auto":
            return self.level
        if forecast.trust <= 0:
            return "medium"
        if forecast.quality >= self.low_above:
            return "low"
        return "high" if forecast.quality < self.high_below else "medium"

    def level_for(self, request: ChatRequest, card: ModelCard, forecast: Forecast) -> Level | None:
        """None where the model does not reason, the client has said it, or tools are offered: some vendors refuse the
        two together."""
        envelope = request.envelope
        if not card.reasoning or envelope.tools or envelope.functions or says_effort(request):
            return None
        return self.of(forecast)

    @staticmethod
    def put(request: ChatRequest, level: Level) -> ChatRequest:
        """The request with the level in it."""
        return with_effort(request, level)
