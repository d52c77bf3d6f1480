"""One request's calls: what may still be begun, what is closed behind them, and that nothing holds on to them."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, cast
from weakref import ref

import pytest

from gateway.admission.base import Lease, Need
from gateway.answer import Answer
from gateway.dispatch.dispatch import Call as Dispatched
from gateway.dispatch.health import Health
from gateway.errors import GatewayError, UpstreamTimeout, UpstreamUnavailable
from gateway.incoming import Incoming
from gateway.ledger.record import Record
from gateway.noting import note_target
from gateway.providers.base import Target
from gateway.strategies.base import Ask, NobodyAnswered, Told
from gateway.strategies.sitting import Means, Sitting
from gateway.strategies.vote import Vote
from gateway.wire.chat_request import ChatRequest
from policies.schema import Policy, StrategySpec
from routers.decision import Query, Ranked
from tests.fakes import WHOLE, FakeProvider
from tests.unit.gateway.dispatch.calls import QUERY, HeldLease, chat, decision, dispatcher, target

SPEC = StrategySpec.model_validate({"kind": "vote", "n": 3, "max_calls": 3})
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'


@dataclass
class Scene:
    """A sitting over real dispatch of some models, in their order; `after` is awaited behind every call."""

    targets: Sequence[Target]
    limit_usd: float | None = None
    stream: bool = False
    late_s: float = 60.0
    after: Callable[[], Awaitable[None]] | None = None
    settled: list[Answer] = field(default_factory=list)
    health: Health = field(default_factory=lambda: Health(time.monotonic))

    def __post_init__(self) -> None:
        self.deadline = asyncio.get_running_loop().time() + self.late_s
        calls = dispatcher(*self.targets, health=self.health)

        async def opened(request: ChatRequest, incoming: Incoming, query: Query, order: Sequence[Ranked]) -> Answer:
            needs = [Need(one.candidate.endpoint.id, one.candidate.card, 100, 10, 7) for one in order]
            lease, record = cast(Lease, HeldLease()), incoming.record
            made = Dispatched(
                request, query, order, needs, lease, self.policy.fallback, record.attempts, 1.0, self.deadline
            )
            try:
                found = await calls.open(made)
            finally:
                if self.after is not None:
                    await self.after()
            note_target(record, found)
            return Answer(found, lease, query, record, incoming.started, self.policy, 1)

        self.means = Means(opened, self.settled.append, lambda order: order, cast(Any, None), self.deadline)

    @property
    def policy(self) -> Policy:
        """No retries; with a limit where one is given."""
        budget = {} if self.limit_usd is None else {"max_cost_usd_per_request": self.limit_usd}
        return Policy.model_validate({"schema": 1, "name": "p", "fallback": {"retries": 0}, "budget": budget})

    def sitting(self) -> Sitting:
        """For one request."""
        incoming = Incoming(b"", cast(Any, None), Record("r", 1.0, "chat"), perf_counter(), {})
        request = chat(stream=self.stream, max_tokens=100)
        return Sitting(SPEC, self.policy, request, incoming, QUERY, decision(*self.targets), self.means)

    def over(self) -> None:
        """From now on the time of all calls is over."""
        self.means = Means(self.means.open, self.means.settle, self.means.balance, self.means.embed, 0.0)


def ask(sitting: Sitting, place: int = 0) -> Ask:
    return Ask("sample", sitting.seats[place], sitting.request, QUERY)


def down() -> GatewayError:
    """Each its own: an exception remembers where it was raised."""
    return UpstreamUnavailable("down")


async def test_once_the_time_is_over_no_further_call_is_begun() -> None:
    provider = FakeProvider(down())
    scene = Scene([target("a", provider), target("b", provider)], late_s=0.0)
    sitting = scene.sitting()

    assert sitting.calls_left == 3
    call = await sitting.ask(ask(sitting))

    assert isinstance(call.error, UpstreamTimeout) and provider.calls == []
    assert sitting.calls_left == 0
    assert [call async for call in sitting.finished([ask(sitting), ask(sitting)])] == []


async def test_nobody_steps_in_once_the_time_is_over_and_the_first_failure_is_told() -> None:
    spare = FakeProvider()
    scene = Scene([target("a", FakeProvider(down())), target("b", spare)])
    scene.over()
    sitting = scene.sitting()
    first = await sitting.ask(ask(sitting))
    assert first.error is not None

    with pytest.raises(UpstreamUnavailable, match="down"):
        await sitting.fall_back(NobodyAnswered(first.error))

    assert spare.calls == []


async def test_the_answer_in_hand_is_given_where_the_time_ends_between_two_waves() -> None:
    scene = Scene([target("a", FakeProvider())], late_s=0.05)

    async def wait() -> None:
        await asyncio.sleep(max(scene.deadline - asyncio.get_running_loop().time(), 0) + 0.01)

    scene.after = wait
    sitting = scene.sitting()

    told = await Vote(StrategySpec.model_validate({"kind": "vote", "n": 9, "max_calls": 9})).answer(sitting)

    assert told.call.text == "hi" and sitting.calls_left == 0


@pytest.mark.parametrize(("limit_usd", "stepped_in"), [(None, ["b"]), (0.05, ["c"]), (0.005, [])])
async def test_who_steps_in_fits_what_the_request_may_still_cost(
    limit_usd: float | None, stepped_in: list[str]
) -> None:
    provider = FakeProvider()
    dear, cheap = (target(name, provider, price_out_usd_per_mtok=usd) for name, usd in (("b", 9_000.0), ("c", 1_000.0)))
    targets = [target("a", FakeProvider(down())), dear, cheap]
    sitting = Scene(targets, limit_usd).sitting()
    first = await sitting.ask(ask(sitting))

    if stepped_in:
        await sitting.fall_back(NobodyAnswered(first.error or down()))
    else:
        with pytest.raises(UpstreamUnavailable, match="down"):
            await sitting.fall_back(NobodyAnswered(first.error or down()))

    assert provider.calls == stepped_in


async def test_an_answer_that_was_read_is_closed_and_counts_as_in_flight_no_more() -> None:
    provider = FakeProvider()
    scene = Scene([target("a", provider)])
    sitting = scene.sitting()
    calls = [await sitting.ask(ask(sitting)) for _ in range(3)]

    held = list(scene.settled)

    assert [call.text for call in calls] == ["hi"] * 3 and len(held) == 3
    assert provider.closed == 3 and scene.health.of("a").in_flight == 0


async def test_streams_that_nobody_reads_are_closed_and_only_the_chosen_one_goes_on() -> None:
    provider = FakeProvider([CHUNK, b"~"])
    scene = Scene([target("a", provider)], stream=True)
    sitting = scene.sitting()
    calls = [await sitting.ask(ask(sitting)) for _ in range(3)]

    answer = await sitting.choose(Told(calls[1], "why not"))

    assert answer.record.id == "r.1" and len(scene.settled) == 2
    assert scene.health.of("a").in_flight == 1
    await answer.opened.reply.frames.aclose()


async def test_cancelled_calls_leave_nothing_in_flight() -> None:
    scene = Scene([target("a", FakeProvider("hang"))])
    sitting = scene.sitting()
    calls = sitting.finished([ask(sitting), ask(sitting)])
    waiting = asyncio.ensure_future(anext(calls))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await calls.aclose()

    assert scene.health.of("a").in_flight == 0


@pytest.mark.parametrize(("failures", "stream"), [(0, False), (1, False), (0, True), (1, True)])
async def test_a_request_that_has_ended_is_held_by_nothing(failures: int, stream: bool) -> None:
    provider = FakeProvider(*(down() for _ in range(failures)), [CHUNK] if stream else [WHOLE])
    scene = Scene([target("a", provider)], stream=stream)
    gc.collect()
    gc.disable()
    try:
        left = await _sat(scene)
        assert left() is None
    finally:
        gc.enable()


async def _sat(scene: Scene) -> ref[Sitting]:
    """Three calls, of which the last one's answer is read to its end; gives no more than a look at the sitting."""
    sitting = scene.sitting()
    calls = [await sitting.ask(ask(sitting)) for _ in range(3)]
    answer = await sitting.choose(Told(calls[2], "the last"))
    sitting.conclude()
    await answer.opened.reply.frames.aclose()
    sitting.record.status = 200
    sitting.conclude()
    scene.settled.clear()
    return ref(sitting)
