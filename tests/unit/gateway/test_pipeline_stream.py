"""A stream under a hard budget: what is looked at, and when. Upstream and lease are fakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from time import perf_counter, time
from typing import Any, cast

import pytest

from gateway.admission.base import Lease
from gateway.admission.estimates import Estimates
from gateway.answer import Answer
from gateway.delivery import Delivery
from gateway.dispatch.dispatch import Opened
from gateway.dispatch.meters.chat import ChatMeter
from gateway.ledger.record import Entry, Record
from gateway.wire.reply import Reply
from policies.schema import Policy
from tests.fakes import WHOLE
from tests.unit.gateway.dispatch.calls import QUERY, HeldLease, ranked, target

PIECE = b'data: {"choices":[{"index":0,"delta":{"content":" tok"},"finish_reason":null}]}\n\n'


class Spent(HeldLease):
    """Nothing more can be set aside."""

    settled: int | None = None

    async def extend(self, cost_nanousd: int) -> bool:
        return False

    def settle(self, cost_nanousd: int, tokens: int) -> None:
        assert self.settled is None
        self.settled = cost_nanousd


class Reluctant:
    """Frames whose end is cancelled while it is waited for."""

    def __init__(self, frames: AsyncGenerator[bytes, None]) -> None:
        self._frames = frames

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._frames

    async def aclose(self) -> None:
        await self._frames.aclose()
        raise asyncio.CancelledError


class Sink:
    """Ledger and observer of one test."""

    def put(self, record: Entry) -> None:
        """Nothing is kept."""

    def answered(self, record: Record) -> None:
        """Nothing is kept."""


async def heaps(read: list[bytes]) -> AsyncGenerator[bytes, None]:
    while len(read) < 100:
        read.append(PIECE * 50)
        yield read[-1]


def delivery() -> Delivery:
    sink = cast(Any, Sink())
    return Delivery(health=cast(Any, None), estimates=Estimates(), ledger=sink, observer=sink)


def answered(read: list[bytes], lease: Spent, stream: bool = True) -> Answer:
    """A call that was opened, and whose frames do not like to be closed."""
    only = target("a", cast(Any, None), price_in_usd_per_mtok=1.0, price_out_usd_per_mtok=1.0)
    frames = heaps(read)
    meter = ChatMeter(only.card, 3, wants_usage=False)
    opened = Opened(only, ranked(only), Reply(Reluctant(frames), stream=stream), frames, meter, b"")
    record = Record(id="req_1", at=time(), route="chat")
    policy = Policy.model_validate({"schema": 1, "name": "p"})
    return Answer(opened, cast(Lease, lease), QUERY, record, perf_counter(), policy, 1)


async def test_of_a_first_heap_for_which_there_is_no_money_nothing_is_shown_and_nothing_more_is_read() -> None:
    read: list[bytes] = []
    answer = answered(read, Spent(hard=True))
    answer.opened.reply.frames = answer.opened.frames  # type: ignore[assignment]

    shown = [frame async for frame in delivery().frames(answer)]

    assert len(read) == 1 and PIECE not in b"".join(shown)
    assert answer.record.budget_exhausted and answer.record.status == 200
    assert b'"finish_reason":"length"' in shown[-1] and shown[-1].endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_is_settled_although_it_is_cancelled_while_its_upstream_is_closed(stream: bool) -> None:
    lease = Spent(hard=True)
    answer = answered([], lease, stream)
    answer.opened.meter.whole(WHOLE)

    with pytest.raises(asyncio.CancelledError):
        await (anext(delivery().frames(answer)) if stream else delivery().whole(answer))

    assert lease.settled == answer.opened.meter.settle().cost_nanousd > 0
