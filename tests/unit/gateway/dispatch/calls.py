"""Calls, endpoints and leases for tests of dispatch; a lease in memory that remembers what it was asked."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.admission.base import Need
from gateway.dispatch.dispatch import Call, Dispatcher
from gateway.dispatch.health import Health
from gateway.dispatch.retries import Retries, RetryBudget
from gateway.providers.base import Provider, Target
from gateway.wire.chat_request import ChatRequest, parse_chat
from policies.catalogue import Endpoint, ModelCard
from policies.schema import Fallback
from routers.decision import Candidate, Decision, Features, Forecast, Query, Ranked

HERE = "http://127.0.0.1:9"
QUERY = Query(text="x", features=Features(tokens=3, chars=1))


class HeldLease:
    """Grants every move but those to endpoints in `refused`."""

    def __init__(self, place: int = 0, hard: bool = False, refused: Sequence[str] = ()) -> None:
        self.place, self.hard, self.refused = place, hard, refused
        self.reserved_nanousd = 0
        self.headers = ()
        self.moves: list[str] = []

    async def extend(self, cost_nanousd: int) -> bool:
        return True

    async def move(self, need: Need) -> bool:
        self.moves.append(need.endpoint_id)
        return need.endpoint_id not in self.refused

    def settle(self, cost_nanousd: int, tokens: int) -> None:
        """Nothing is kept."""


def chat(**fields: Any) -> ChatRequest:
    body = {"model": "auto", "messages": [{"role": "user", "content": "x"}]} | fields
    return parse_chat(msgspec.json.encode(body))


def target(
    name: str, provider: Provider, base_url: str | None = HERE, kind: str = "openai", model: str = "", **facts: Any
) -> Target:
    """An endpoint of a model of its own, or of `model`."""
    fields = {name: facts.pop(name) for name in ("weight", "first_byte_timeout_s") if name in facts}
    row = Endpoint(id=name, model=model or f"model-{name}", provider=kind, base_url=base_url, **fields)
    card = ModelCard(id=row.model, context_tokens=10, **facts)
    return Target(endpoint=row, card=card, provider=provider, base_url=base_url)


def ranked(one: Target, propensity: float = 1.0) -> Ranked:
    forecast = Forecast(one.endpoint.id, 0.5, 0.4, 0.6, 5, 9, 10.0)
    return Ranked(Candidate(one.endpoint, one.card, 10.0), forecast, 0, 0, 0.5, propensity)


def decision(*targets: Target, propensities: Sequence[float] = (), kind: str = "rules") -> Decision:
    shares = propensities or [1.0] * len(targets)
    ranking = tuple(ranked(one, share) for one, share in zip(targets, shares, strict=True))
    return Decision(ranking, "because", kind, "p", "0" * 64)


def call(
    *targets: Target,
    request: ChatRequest | None = None,
    lease: HeldLease | None = None,
    deadline: float | None = None,
    **fallback: Any,
) -> Call:
    """A call of these endpoints in this order, without retries unless asked for."""
    needs = [Need(one.endpoint.id, one.card, 100 + place, 10, 7) for place, one in enumerate(targets)]
    policy = Fallback(**{"retries": 0} | fallback)
    order = [ranked(one) for one in targets]
    return Call(request or chat(), QUERY, order, needs, lease or HeldLease(), policy, [], time.time(), deadline)


def dispatcher(*targets: Target, health: Health | None = None, seed: int = 1) -> Dispatcher:
    rng = random.Random(seed)
    retries = Retries(RetryBudget(time.monotonic), rng)
    return Dispatcher({one.endpoint.id: one for one in targets}, health or Health(time.monotonic), retries, rng)


def outcomes(made: Call) -> list[str]:
    return [attempt["outcome"] for attempt in made.attempts]
