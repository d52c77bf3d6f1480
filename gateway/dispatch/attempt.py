"""One call of one endpoint until its first frame, and what that tells of the endpoint. Knows no order of endpoints."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from gateway.admission.base import Lease, Need
from gateway.dispatch.breaker import Entry
from gateway.dispatch.deadline import Deadline
from gateway.dispatch.effort import EffortRule
from gateway.dispatch.health import Health, Vitals
from gateway.dispatch.meters.base import Meter
from gateway.dispatch.meters.find import meter_class
from gateway.errors import (
    GatewayError,
    RefusedUpstream,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamError,
    UpstreamTimeout,
)
from gateway.providers.base import Target
from gateway.wire.chat_request import ChatRequest
from gateway.wire.reply import Frames, Reply
from policies.schema import Fallback
from routers.decision import Query, Ranked

log = logging.getLogger(__name__)

# A short deadline of the caller's is no fault of an endpoint that was given less than this part of its own time.
FAIR_SHARE = 0.5

Attempt = dict[str, Any]


@dataclass(slots=True)
class Call:
    """One request on its way. `needs` are parallel to `order`; `lease` says which of them was granted.

    Every try is noted in `attempts`: endpoint, outcome, ms, and `may_cost` where the vendor may charge for it all the
    same. `at` (Unix seconds) is the moment whose prices hold, `deadline` (event loop time) when the answer must have
    begun, beside the policy's own bound. `effort` says how hard models that reason shall think (None: as they do).
    """

    request: ChatRequest
    query: Query
    order: Sequence[Ranked]
    needs: Sequence[Need]
    lease: Lease
    fallback: Fallback
    attempts: list[Attempt]
    at: float
    deadline: float | None = None
    effort: EffortRule | None = None


@dataclass(slots=True)
class Opened:
    """A reply whose first frame is in hand, already metered as `first`; of a stream under a hard budget it is the first
    of `frames`, and not metered yet."""

    target: Target
    ranked: Ranked
    reply: Reply
    frames: AsyncIterator[bytes]
    meter: Meter
    first: bytes


class Attempts:
    """Calls endpoints one at a time; keeps their health and the record of tries."""

    def __init__(self, targets: Mapping[str, Target], health: Health) -> None:
        self._targets = targets
        self._health = health

    async def one(self, call: Call, place: int, deadline: Deadline) -> Opened:
        """Ask the endpoint at `place` of the order; its calls in flight count until the reply's frames are closed."""
        ranked = call.order[place]
        name = ranked.candidate.endpoint.id
        attempt: Attempt = {"endpoint": name, "outcome": "cancelled", "ms": 0.0}
        call.attempts.append(attempt)
        target = self._targets.get(name)
        if target is None:  # its key was taken away since it was chosen
            attempt["outcome"] = UpstreamAuth.code
            raise UpstreamAuth(f"{name}: The endpoint has just been disabled.")
        vitals = self._health.of(name)
        entry = self._health.enter(vitals)
        deadline.waiting = True
        vitals.in_flight += 1
        opened: Opened | None = None
        waited_ms, started = target.wait_ms(), perf_counter()
        try:
            opened = await self._first_frame(call, place, target, deadline)
        except asyncio.CancelledError:
            self._cancelled(attempt, target, deadline, perf_counter() - started)
            raise
        except GatewayError as error:
            self._failed(attempt, target, error)
            raise
        finally:
            ms = (perf_counter() - started) * 1000
            attempt["ms"] = round(ms, 3)
            if opened is None:
                vitals.in_flight -= 1
                if entry is Entry.TRIAL:
                    vitals.breaker.give_up()
        attempt["outcome"] = "ok"
        # How long it stands in line is forecast apart, by what the line is then.
        self._health.succeeded(name, max(ms - waited_ms, ms / 10))
        opened.reply.frames = _InFlight(opened.reply.frames, vitals)
        return opened

    async def _first_frame(self, call: Call, place: int, target: Target, deadline: Deadline) -> Opened:
        request = call.request
        if call.lease.hard and (not request.stream or target.card.reasoning):
            # What is not seen while it is written can't be paid for by and by: its length is bounded beforehand.
            each = call.needs[place].output_tokens // request.choices
            request = replace(request, cap_tokens=max(each, 1))
        if call.effort is not None:
            request = self._thinking(call, call.effort, place, target, request)
        reply = await target.provider.open(request, target)
        if not reply.stream:
            deadline.waiting = False  # what remains is bound by the endpoint's own time-outs
        frames = aiter(reply.frames)
        try:
            meter = meter_class(reply.dialect)(target.card, call.query.features.tokens, request.wants_usage, call.at)
            if not reply.stream:
                first = await _whole(frames, meter)
            elif call.lease.hard:  # nothing is heard before it is known to be paid for
                first, frames = b"", _FromFirst(await _first_event(frames), frames)
            else:
                first = meter.stream(await _first_event(frames))
        except StopAsyncIteration:
            raise UpstreamBroken("The upstream's answer is empty.") from None
        except BaseException:
            await reply.frames.aclose()
            raise
        return Opened(target, call.order[place], reply, frames, meter, first)

    def _thinking(
        self, call: Call, effort: EffortRule, place: int, target: Target, request: ChatRequest
    ) -> ChatRequest:
        """The request with how hard this model shall think, noted beside its attempt."""
        level = effort.level_for(request, target.card, call.order[place].forecast)
        if level is None:
            return request
        call.attempts[-1]["effort"] = level
        return effort.put(request, level)

    def _failed(self, attempt: Attempt, target: Target, error: GatewayError) -> None:
        """Note a failure; where it is the endpoint's count it, tell the operator when it is news, name the endpoint.

        A call that failed before its first byte costs nothing, unless the vendor may have done the work.
        """
        name = target.endpoint.id
        if isinstance(error, RefusedUpstream):
            attempt["outcome"] = "refused"
            self._health.alive(name)
            return
        attempt["outcome"] = error.code
        if not isinstance(error, UpstreamError):
            return
        attempt["message"] = error.message
        if isinstance(error, (UpstreamTimeout, UpstreamBroken)):
            attempt["may_cost"] = True
        if self._health.failed(name, error.retry_after_s):
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            log.warning("endpoint %s: %s%s", name, error.message, cause)
        error.message = f"{name}: {error.message}"

    def _cancelled(self, attempt: Attempt, target: Target, deadline: Deadline, waited_s: float) -> None:
        """The client left, another call was faster, or the time is over: then it may be the endpoint's fault."""
        attempt["may_cost"] = True
        if deadline.rang:
            attempt["outcome"] = "deadline"
            if waited_s >= FAIR_SHARE * target.endpoint.first_byte_timeout_s:
                self._health.failed(target.endpoint.id)


class _InFlight:
    """Frames that tell when they are closed; those that were forgotten tell when they are collected."""

    __slots__ = ("_frames", "_vitals")

    def __init__(self, frames: Frames, vitals: Vitals) -> None:
        self._frames = frames
        self._vitals: Vitals | None = vitals

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._frames)

    def aclose(self) -> Coroutine[Any, Any, None]:
        self._ended()
        return self._frames.aclose()

    def __del__(self) -> None:
        self._ended()

    def _ended(self) -> None:
        vitals, self._vitals = self._vitals, None
        if vitals is not None:
            vitals.in_flight -= 1


async def _whole(frames: AsyncIterator[bytes], meter: Meter) -> bytes:
    return meter.whole(await anext(frames))


async def _first_event(frames: AsyncIterator[bytes]) -> bytes:
    """What came up to the first event that says something; comments that only keep a connection alive do not count."""
    held = b""
    while b"data:" not in held:
        held += await anext(frames)
    return held


class _FromFirst:
    """Frames that begin with one that was read already."""

    __slots__ = ("_frames", "_held")

    def __init__(self, held: bytes, frames: AsyncIterator[bytes]) -> None:
        self._held = held
        self._frames = frames

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        held, self._held = self._held, b""
        return held or await anext(self._frames)
