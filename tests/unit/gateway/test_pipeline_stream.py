"""A stream under a hard budget: what is looked at, and when. Upstream and lease are fakes."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from time import perf_counter, time
from typing import Any, cast

from gateway.admission.base import Lease
from gateway.admission.estimates import Estimates
from gateway.dispatch.dispatch import Opened
from gateway.dispatch.meters.chat import ChatMeter
from gateway.ledger.record import Record
from gateway.pacing import Paces
from gateway.pipeline import Answer, Pipeline
from gateway.wire.reply import Reply
from policies.schema import Policy
from tests.unit.gateway.dispatch.calls import QUERY, HeldLease, ranked, target

PIECE = b'data: {"choices":[{"index":0,"delta":{"content":" tok"},"finish_reason":null}]}\n\n'


class Spent(HeldLease):
    """Nothing more can be set aside."""

    reserved_nanousd = 0

    async def extend(self, cost_nanousd: int) -> bool:
        return False


class Sink:
    """Ledger and observer of one test."""

    def put(self, record: Record) -> None:
        """Nothing is kept."""

    def answered(self, record: Record) -> None:
        """Nothing is kept."""


async def endless(read: list[bytes]) -> AsyncGenerator[bytes, None]:
    while len(read) < 100:
        read.append(PIECE)
        yield PIECE


def pipeline() -> Pipeline:
    parts: dict[str, Any] = dict.fromkeys(("meanings", "embedding", "dispatcher", "health", "admission", "purse"))
    sink = cast(Any, Sink())
    paces = Paces(cast(Any, None))
    return Pipeline(**parts, estimates=Estimates(), ledger=sink, observer=sink, paces=paces, rng=random.Random(1))


async def test_a_first_frame_that_takes_all_the_money_is_the_last_one() -> None:
    only = target("a", cast(Any, None), price_in_usd_per_mtok=1.0, price_out_usd_per_mtok=1.0)
    read: list[bytes] = []
    frames = endless(read)
    meter = ChatMeter(only.card, 3, wants_usage=False)
    opened = Opened(only, ranked(only), Reply(frames, stream=True), frames, meter, meter.stream(PIECE * 50))
    record = Record(id="req_1", at=time(), route="chat")
    policy = Policy.model_validate({"schema": 1, "name": "p"})
    answer = Answer(opened, cast(Lease, Spent(hard=True)), QUERY, record, perf_counter(), policy, 1)

    shown = [frame async for frame in pipeline()._frames(answer)]

    assert read == []
    assert record.budget_exhausted and record.status == 200
    assert b'"finish_reason":"length"' in shown[-1] and shown[-1].endswith(b"data: [DONE]\n\n")
