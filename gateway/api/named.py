"""What routes share whose requests name a model outright: nothing is routed, its endpoints are tried in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

from gateway.admission.base import Admission, Need
from gateway.admission.estimates import Estimates
from gateway.admission.rules import Caller
from gateway.api.raw import RawRoute
from gateway.dispatch.fleet import Fleet
from gateway.dispatch.health import Health
from gateway.dispatch.meters.base import Usage
from gateway.errors import GatewayError, ModelNotAllowed, ModelNotFound, UpstreamError, UpstreamTimeout
from gateway.incoming import Incoming
from gateway.ledger.record import Record
from gateway.providers.base import Target

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Measured:
    """An answer and what it took."""

    body: bytes
    usage: Usage


class NamedModelRoute(RawRoute):
    """Tries the endpoints of the model, the healthy first, under the caller's budgets and limits.

    While the store of budgets is away a caller with hard budgets is refused, whatever its policy says of chats.
    """

    def __init__(self, fleet: Fleet, health: Health, admission: Admission, estimates: Estimates, **floor: Any) -> None:
        super().__init__(**floor)
        self._fleet = fleet
        self._health = health
        self._admission = admission
        self._estimates = estimates

    def targets(self, model: str, caller: Caller) -> tuple[Target, ...]:
        """The endpoints of a model of the catalogue; `ModelNotAllowed`, or `ModelNotFound` where none is enabled."""
        if caller.allowed_models is not None and model not in caller.allowed_models:
            raise ModelNotAllowed(f"This key may not use '{model}'.", param="model")
        targets = self._fleet.of_model(model)
        if not targets:
            raise ModelNotFound(self._fleet.why_not(model), param="model")
        return tuple(sorted(targets, key=lambda target: self._health.paused_s(target.endpoint.id) > 0))

    async def first(
        self,
        incoming: Incoming,
        targets: tuple[Target, ...],
        prompt_tokens: int,
        ask: Callable[[Target], Awaitable[Measured]],
    ) -> bytes:
        """The first answer; every try is noted in the record. Raises the last failure."""
        record, tags, timeout_s = incoming.record, incoming.tags, incoming.timeout_s
        record.tags = list(tags) or None
        self._admission.precheck(incoming.caller)
        needs = [self._estimates.prompt_need(one.endpoint.id, one.card, prompt_tokens) for one in targets]
        lease = await self._admission.admit(incoming.caller, tags, needs, fail_open=False)
        try:
            target, answer = await self._in_time(timeout_s, self._first(targets[lease.place :], record, ask))
        except BaseException:
            spent = _given_up(record, needs[lease.place])
            lease.settle(spent, needs[lease.place].tokens if spent else 0)
            raise
        lease.settle(answer.usage.cost_nanousd, answer.usage.input_tokens)
        self._estimates.learn_prompt(target.card, prompt_tokens, answer.usage)
        record.reserved_nanousd = lease.reserved_nanousd or None
        _note(record, target, answer.usage)
        return answer.body

    @staticmethod
    async def _in_time(timeout_s: float | None, asked: Coroutine[Any, Any, _Found]) -> _Found:
        """The answer, or `UpstreamTimeout` where it takes longer than the caller wants to wait."""
        if timeout_s is None:
            return await asked
        clock = asyncio.timeout(timeout_s)
        try:
            async with clock:
                return await asked
        except TimeoutError as error:
            if not clock.expired():
                raise
            raise UpstreamTimeout(f"No endpoint answered within {timeout_s:.3g} s.") from error

    async def _first(
        self, targets: tuple[Target, ...], record: Record, ask: Callable[[Target], Awaitable[Measured]]
    ) -> tuple[Target, Measured]:
        failure: UpstreamError | None = None
        for target in targets:
            began = perf_counter()
            attempt: dict[str, Any] = {"endpoint": target.endpoint.id, "outcome": "cancelled"}
            record.attempts.append(attempt)
            try:
                answer = await ask(target)
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
            return target, answer
        raise failure or ModelNotFound("The model has no endpoint.", param="model")


def _given_up(record: Record, need: Need) -> int:
    """What a call without an answer is taken to have cost: its prompt, where an endpoint was still at work on it."""
    if not record.attempts or record.attempts[-1]["outcome"] not in ("cancelled", UpstreamTimeout.code):
        return 0
    record.cost_nanousd, record.input_tokens, record.usage_estimated = need.cost_nanousd, need.tokens, True
    return need.cost_nanousd


def _note(record: Record, target: Target, usage: Usage) -> None:
    """What the answer took, and who gave it."""
    record.model, record.endpoint, record.provider = target.card.id, target.endpoint.id, target.endpoint.provider
    record.input_tokens, record.output_tokens = usage.input_tokens, 0
    record.cost_nanousd = usage.cost_nanousd if target.card.priced else None
    record.usage_estimated = usage.estimated
    record.price_since = target.card.price_since(record.at)
