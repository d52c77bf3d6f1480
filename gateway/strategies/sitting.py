"""One request's calls on behalf of a strategy: begun within the policy's bounds, settled, and written down as parts.

Implements `Panel`. The pipeline lends the stages; their order is its own business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import numpy.typing as npt

from gateway.admission.refusals import BudgetStoreUnavailable
from gateway.answer import Answer
from gateway.dispatch.eligible import worst_nanousd
from gateway.errors import BudgetExceeded, GatewayError, RateLimited, UpstreamBroken
from gateway.incoming import Incoming
from gateway.ledger.record import Child, Record
from gateway.noting import note_usage
from gateway.strategies.base import Ask, Call, NobodyAnswered, Seat, Told
from gateway.strategies.fit import seats_of
from gateway.strategies.signals import first_choice, signals_of, text_of_choice
from gateway.strategies.sums import Sums, sums_of
from gateway.wire.chat_edit import as_chat
from gateway.wire.chat_reply import read_reply
from gateway.wire.chat_request import ChatRequest
from gateway.wire.chat_resaid import frame_with_usage, with_usage
from policies.schema import Policy, StrategySpec
from routers.decision import Decision, Query, Ranked

Vector = npt.NDArray[np.float32]

_NANO = 1_000_000_000
_REFUSALS = (BudgetExceeded, RateLimited, BudgetStoreUnavailable)


@dataclass(frozen=True, slots=True)
class Means:
    """What the pipeline lends: a call admitted and dispatched, its settlement, a model's endpoints in the order in
    which they should be called, an embedding; `deadline` is the event loop's time by which the answer must have begun,
    for all calls together."""

    open: Callable[[ChatRequest, Incoming, Query, Sequence[Ranked]], Awaitable[Answer]]
    settle: Callable[[Answer], None]
    balance: Callable[[Sequence[Ranked]], Sequence[Ranked]]
    embed: Callable[[str], Awaitable[Vector | None]]
    deadline: float


@dataclass(slots=True)
class _Part:
    """One call with its own record, from which the parts of the request's row are made."""

    call: Call
    record: Record
    began: float
    answer: Answer | None = None
    settled: bool = False


class Sitting:
    """See `Panel`, and `gateway.answer.Whole` for how a streamed answer ends."""

    def __init__(
        self,
        spec: StrategySpec,
        policy: Policy,
        request: ChatRequest,
        incoming: Incoming,
        query: Query,
        decision: Decision,
        means: Means,
    ) -> None:
        self.record = incoming.record
        self.request = as_chat(request)
        self.query = query
        self.seats = seats_of(decision)
        self.refusal = ""
        self._spec = spec
        self._policy = policy
        self._incoming = incoming
        self._means = means
        self._multiplier = decision.budget_multiplier
        self._parts: list[_Part] = []
        self._told: Told | None = None
        self._reason = incoming.record.reason or ""

    # what strategies see

    @property
    def cost_weight_per_usd(self) -> float:
        """See `Panel`."""
        objective = self._policy.objective_of(self.query.category)
        return self._multiplier * objective.cost / (objective.cost_scale_usd * (objective.quality or 1.0))

    @property
    def budget_left_nanousd(self) -> int | None:
        """See `Panel`."""
        limit = self._policy.budget.max_cost_usd_per_request
        return None if limit is None else max(round(limit * _NANO) - self._committed(), 0)

    @property
    def calls_left(self) -> int:
        """See `Panel`."""
        return 0 if self.refusal or self._is_late else self._room

    async def ask(self, ask: Ask) -> Call:
        """See `Panel`."""
        return await self._made(self._begun(ask))

    async def finished(self, asks: Sequence[Ask]) -> AsyncGenerator[Call, None]:
        """See `Panel`."""
        parts = [self._begun(one) for one in asks[: self.calls_left]]
        tasks = [asyncio.create_task(self._made(part)) for part in parts]
        waiting = set(tasks)
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for one in sorted(done, key=tasks.index):
                    yield one.result()
        finally:
            for one in tasks:
                one.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def vectors(self, texts: Sequence[str]) -> list[Vector] | None:
        """See `Panel`."""
        found = await asyncio.gather(*map(self._means.embed, texts))
        known = [one for one in found if one is not None]
        return known if len(known) == len(found) else None

    # what the pipeline sees

    async def fall_back(self, failed: NobodyAnswered) -> Told:
        """One plain call of whoever was not asked yet and fits what may still be spent, in the decision's order; raises
        the error of the first call where nobody is left, and this call's own where it fails, too."""
        asked, left = {part.call.model for part in self._parts}, self.budget_left_nanousd
        seats = [seat for seat in self.seats if seat.card.id not in asked]
        if left is not None:  # dispatch may go through them all
            seats = [seat for seat in seats if worst_nanousd(self.query.features, seat.card) <= left]
        order = tuple(ranked for seat in seats for ranked in seat.order)
        if not order or not self._room or self._is_late:
            raise failed.error
        call = await self.ask(Ask("fallback", Seat(order), self.request, self.query))
        if call.error is not None:
            raise call.error
        return Told(call, f"No call of the strategy was answered ({failed.error.message}); a plain one was.")

    async def choose(self, told: Told) -> Answer:
        """This one's answer the client gets; streams that have begun beside it are ended."""
        self._told = told
        chosen = next((part.answer for part in self._parts if part.call is told.call), None)
        if chosen is None:
            raise ValueError("a strategy told of a call that has no answer")
        for part in self._parts:
            if part.answer is not chosen:
                await self._drop(part)
        return chosen

    def body(self, answer: Answer) -> bytes:
        """A whole answer as the client sees it."""
        asked_for_more = not self.request.envelope.logprobs
        return with_usage(answer.opened.first, self.sums().usage(), hide_logprobs=asked_for_more)

    def shown(self, frame: bytes) -> bytes:
        """See `Whole`."""
        if b'"usage"' not in frame or not self.request.wants_usage:
            return frame
        for part in self._parts:
            if part.answer is not None and not part.settled:
                note_usage(part.record, part.answer.opened)
        return frame_with_usage(frame, self.sums().usage())

    def sums(self) -> Sums:
        """What all calls have taken so far."""
        return sums_of(part.record for part in self._parts)

    async def give_up(self) -> None:
        """End what still runs, after a failure or when the client has left."""
        for part in self._parts:
            await self._drop(part)
        self.conclude()

    def conclude(self) -> None:
        """See `Whole`; may be called again, once more is known."""
        record, sums = self.record, self.sums()
        record.strategy = self._spec.kind
        record.propensity = None  # several calls were made, none of them by a draw of its own
        self._note_chosen()
        record.children = list(self._children())
        record.attempts = [attempt for part in self._parts for attempt in part.record.attempts]
        self._note_lost()
        if sums.calls:
            record.input_tokens, record.output_tokens = sums.input_tokens, sums.output_tokens
            record.cached_tokens, record.cache_write_tokens = sums.cached_tokens, sums.cache_write_tokens
            record.reasoning_tokens, record.audio_tokens = sums.reasoning_tokens, sums.audio_tokens
            record.images, record.usage_estimated = sums.images, sums.estimated
            record.cost_nanousd, record.reserved_nanousd = sums.cost_nanousd, sums.reserved_nanousd or None
        for part in self._parts:  # an answer knows its `whole`: ended ones are let go of, lest it be a cycle
            if part.settled or record.status:
                part.answer = None

    def _note_lost(self) -> None:
        """Calls that were ended because another one's answer was taken are told from those whose client has left."""
        for part in self._parts if self._told is not None else ():
            for attempt in part.record.attempts:
                if attempt["outcome"] == "cancelled":
                    attempt["outcome"] = "lost"

    def _note_chosen(self) -> None:
        """Whose answer it is, and why; its end, where it has ended."""
        told = self._told
        part = next((one for one in self._parts if told is not None and one.call is told.call), None)
        if told is None or part is None:
            return
        record, own = self.record, part.record
        if not own.status:  # a stream that did not come to its end
            own.status, own.error_code = record.status, record.error_code
        record.model, record.endpoint, record.provider = own.model, own.endpoint, own.provider
        record.finish_reason, record.price_since = own.finish_reason, own.price_since
        record.budget_exhausted = own.budget_exhausted
        asked = f"{len(self._parts)} call{'s' if len(self._parts) != 1 else ''}"
        record.reason = f"{self._reason} Strategy '{self._spec.kind}', {asked}: {told.reason}"

    # one call

    @property
    def _room(self) -> int:
        return self._spec.max_calls - len(self._parts)

    @property
    def _is_late(self) -> bool:
        """Whether the time of all calls is over. A first one is begun even then: its failure is what the client is
        told."""
        return bool(self._parts) and asyncio.get_running_loop().time() >= self._means.deadline

    def _begun(self, ask: Ask) -> _Part:
        if self._room <= 0:
            raise ValueError(f"more than {self._spec.max_calls} calls of one request")
        mine, number = self.record, len(self._parts)
        record = Record(f"{mine.id}.{number}", mine.at, mine.route, tags=mine.tags, stream=ask.request.stream)
        part = _Part(Call(number, ask), record, perf_counter())
        self._parts.append(part)
        return part

    async def _made(self, part: _Part) -> Call:
        """Admit, dispatch, and read a whole answer; whatever happens, what it took is settled."""
        call, ask = part.call, part.call.ask
        try:
            self._check_limit(part)
            incoming = replace(self._incoming, record=part.record, started=part.began)
            order = self._means.balance(ask.seat.order)
            part.answer = await self._means.open(ask.request, incoming, ask.query, order)
            part.answer.whole = self
            if not part.answer.opened.reply.stream:
                await self._read(part, part.answer)
        except _REFUSALS as error:
            call.error = error
            self.refusal = f"No further call was made: {error.message}"
        except GatewayError as error:
            call.error = error
        except asyncio.CancelledError:
            part.record.status, part.record.error_code = 499, "cancelled"
            raise
        finally:
            part.record.total_ms = _ms_since(part.began)
            if call.error is not None:
                call.error.__traceback__ = None  # it holds this frame, and that the call: a cycle
                part.record.status, part.record.error_code = call.error.http_status, call.error.detail()["code"]
        return call

    async def _read(self, part: _Part, answer: Answer) -> None:
        call = part.call
        try:
            self._settle(part, answer)
        finally:
            await answer.opened.reply.frames.aclose()
        reply = read_reply(answer.opened.first)
        if not reply.choices:
            raise UpstreamBroken("The upstream's answer has no choice.")
        call.cost_nanousd = part.record.cost_nanousd or 0
        call.output_tokens = part.record.output_tokens or 0
        call.text = text_of_choice(first_choice(reply))
        call.signals = signals_of(reply, answer.opened.ranked.forecast, call.output_tokens)
        call.reply = reply

    async def _drop(self, part: _Part) -> None:
        """End a stream that nobody reads."""
        if part.answer is not None and not part.settled:
            self._settle(part, part.answer)
            part.record.status, part.record.error_code = 499, "cancelled"
            await part.answer.opened.reply.frames.aclose()

    def _settle(self, part: _Part, answer: Answer) -> None:
        part.settled = True
        self._means.settle(answer)

    def _check_limit(self, part: _Part) -> None:
        """What the policy lets a request cost holds for all of its calls together, each at its worst."""
        limit = self._policy.budget.max_cost_usd_per_request
        if limit is None or part.call.seq == 0:  # the first is as eligible as a plain call
            return
        if self._committed(part.call.seq + 1) > limit * _NANO:
            raise BudgetExceeded(f"another call could take the request's cost over the policy's limit of ${limit:g}.")

    def _committed(self, first: int | None = None) -> int:
        """What ended calls have cost and what those under way could cost; of the `first` so many, or of all."""
        return sum(_worst(part) for part in self._parts[:first])

    def _children(self) -> Iterator[Child]:
        for part in self._parts:
            own, call = part.record, part.call
            first = call.ask.seat.order[0].candidate.endpoint
            yield Child(
                parent_id=self.record.id,
                seq=call.seq,
                role=call.ask.role,
                model=own.model or call.model,
                endpoint=own.endpoint or (own.attempts[-1]["endpoint"] if own.attempts else first.id),
                provider=own.provider or first.provider,
                status=own.status or 499,
                error_code=own.error_code if own.status else "cancelled",
                finish_reason=own.finish_reason,
                chosen=self._told is not None and call is self._told.call,
                input_tokens=own.input_tokens,
                output_tokens=own.output_tokens,
                cached_tokens=own.cached_tokens,
                reasoning_tokens=own.reasoning_tokens,
                usage_estimated=own.usage_estimated,
                cost_nanousd=own.cost_nanousd,
                reserved_nanousd=own.reserved_nanousd,
                began_ms=(part.began - self._incoming.started) * 1000,
                latency_ms=own.total_ms,
                signals=call.signals.shown() if call.signals is not None else None,
            )


def _worst(part: _Part) -> int:
    """A call's cost once it is known; until then the most that it can be."""
    if part.record.total_ms is not None and (part.settled or part.answer is None):
        return part.record.cost_nanousd or 0
    ask = part.call.ask
    return worst_nanousd(ask.query.features, ask.seat.card)


def _ms_since(began: float) -> float:
    return (perf_counter() - began) * 1000
