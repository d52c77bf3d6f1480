"""Lets drafts decide beside what is in force: later, in a task of its own, and for the ledger only."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.errors import GatewayError
from gateway.incoming import Incoming
from gateway.ledger.record import Record, ShadowDecision
from gateway.lifecycle.policy_store import ActivePolicy
from gateway.meaning import Placing
from gateway.wire.chat_request import ChatRequest
from routers.decision import Decision

log = logging.getLogger(__name__)

# Requests that wait for a draft's decision, which keep their bodies meanwhile; beyond that they are left out.
MOST_WAITING: Final = 64
FAULT_CHARS: Final = 300
# The pipeline's `decide`.
Decide = Callable[[ChatRequest, Incoming, Placing | None], Awaitable[tuple[Any, Any, Decision]]]


@dataclass(frozen=True, slots=True)
class _Waiting:
    draft: ActivePolicy
    request: ChatRequest
    incoming: Incoming
    served: Decision
    decide: Decide


class Shadows:
    """One process'; `put` hands a decision to the ledger's queue."""

    def __init__(self, put: Callable[[ShadowDecision], None]) -> None:
        self._put = put
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue(MOST_WAITING)
        self.counts: Counter[str] = Counter()

    def put(
        self, draft: ActivePolicy, request: ChatRequest, incoming: Incoming, served: Decision, decide: Decide
    ) -> None:
        """Never waits; what there is no room for is left out and counted."""
        try:
            self._waiting.put_nowait(_Waiting(draft, request, incoming, served, decide))
        except asyncio.QueueFull:
            self.counts["left_out"] += 1

    async def run(self) -> None:
        """For ever, one after the other."""
        while True:
            one = await self._waiting.get()
            self._put(await self._decided(one))
            self.counts["decided"] += 1
            self._waiting.task_done()

    async def settled(self) -> None:
        """Until nothing waits."""
        await self._waiting.join()

    async def _decided(self, one: _Waiting) -> ShadowDecision:
        record = one.incoming.record
        aside = replace(one.incoming, record=Record(id=record.id, at=record.at, route="shadow"))
        best = one.served.chosen
        found = ShadowDecision(
            request_id=record.id,
            trial_id=record.trial_id or "",
            at=record.at,
            control_model=best.candidate.card.id,
            control_quality=best.forecast.quality,
            control_cost_nanousd=best.cost_nanousd,
        )
        try:
            _, _, decision = await one.decide(one.request, aside, lambda _: one.draft)
        except GatewayError as error:
            found.fault = str(error)[:FAULT_CHARS]
            return found
        except Exception as error:  # a draft's fault must not end the others
            log.exception("the draft of trial %s could not decide", found.trial_id)
            found.fault = type(error).__name__
            return found
        mine = decision.chosen
        found.model, found.propensity = mine.candidate.card.id, mine.propensity
        found.quality, found.cost_nanousd = mine.forecast.quality, mine.cost_nanousd
        found.agrees = found.model == found.control_model
        return found
