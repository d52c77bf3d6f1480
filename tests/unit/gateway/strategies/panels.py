"""A panel in memory: models that say what a test tells them to, in an order that it decides."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from gateway.errors import GatewayError, UpstreamError
from gateway.strategies.base import Ask, Call, Seat
from gateway.strategies.signals import signals_of
from gateway.wire.chat_reply import ChatReply, Choice, Said
from gateway.wire.chat_request import ChatRequest
from policies.catalogue import Endpoint, ModelCard
from routers.decision import Candidate, Features, Forecast, Query, Ranked
from tests.unit.gateway.dispatch.calls import chat

QUERY = Query("What is it?", Features(tokens=10, chars=11))
Says = Mapping[str, Sequence[str | GatewayError]]


def seat(name: str, quality: float = 0.5, price: float = 1.0, endpoints: int = 1, **facts: bool) -> Seat:
    """A model, each of its endpoints with this forecast."""
    prices = {"price_in_usd_per_mtok": price, "price_out_usd_per_mtok": price}
    card = ModelCard.model_validate({"id": name, "context_tokens": 10_000, **prices, **facts})
    rows = [
        Endpoint(id=f"{name}-{number}", model=name, provider="openai", base_url="http://x")
        for number in range(endpoints)
    ]
    cost = card.cost_nanousd(10, 20)
    order = [
        Ranked(Candidate(row, card, 10.0), Forecast(row.id, quality, 0, 1, 20, 60, 10.0), cost, cost, quality, 1.0)
        for row in rows
    ]
    return Seat(tuple(order))


class FakePanel:
    """Implements `Panel`. `says` gives each model's answers in turn, the last one repeats; errors are failures.

    Calls made beside each other end in the order of `slow`: those models last.
    """

    def __init__(
        self,
        seats: Sequence[Seat],
        says: Says,
        *,
        request: ChatRequest | None = None,
        most: int = 16,
        vectors: Mapping[str, Sequence[float]] | None = None,
        slow: Sequence[str] = (),
        logprob: Mapping[str, float] | None = None,
    ) -> None:
        self.request = request or chat()
        self.query = QUERY
        self.seats = seats
        self.cost_weight_per_usd = 0.0
        self.budget_left_nanousd = None
        self.refusal = ""
        self.asked: list[Ask] = []
        self.most = most
        self._says, self._vectors, self._slow, self._logprob = says, vectors, slow, logprob or {}
        self._said: dict[str, int] = defaultdict(int)

    @property
    def calls_left(self) -> int:
        return 0 if self.refusal else self.most - len(self.asked)

    @property
    def models(self) -> list[str]:
        """Who was asked, in order."""
        return [one.seat.card.id for one in self.asked]

    @property
    def roles(self) -> dict[str, int]:
        """How many calls of each role."""
        return dict(Counter(one.role for one in self.asked))

    async def ask(self, ask: Ask) -> Call:
        assert self.calls_left > 0
        self.asked.append(ask)
        call, model = Call(len(self.asked) - 1, ask), ask.seat.card.id
        texts = self._says[model]
        said = texts[min(self._said[model], len(texts) - 1)]
        self._said[model] += 1
        if isinstance(said, GatewayError):
            call.error = said
            return call
        if ask.request.stream:
            return call
        logprob = self._logprob.get(model)
        logprobs = None if logprob is None else {"content": [{"logprob": logprob}]}
        call.reply = ChatReply(choices=[Choice(message=Said(content=said), finish_reason="stop", logprobs=logprobs)])
        call.text, call.output_tokens, call.cost_nanousd = said, len(said.split()), 1000
        call.signals = signals_of(call.reply, ask.seat.forecast, call.output_tokens)
        return call

    async def finished(self, asks: Sequence[Ask]) -> AsyncGenerator[Call, None]:
        made = [await self.ask(one) for one in asks[: self.calls_left]]
        for call in sorted(made, key=lambda one: one.model in self._slow):
            yield call

    async def vectors(self, texts: Sequence[str]) -> list[npt.NDArray[np.float32]] | None:
        if self._vectors is None:
            return None
        return [np.array(self._vectors[text], dtype=np.float32) for text in texts]


DOWN = UpstreamError("it is down")
