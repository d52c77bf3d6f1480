"""Two calls of one model: the first to answer wins, the other is cancelled and noted."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.dispatch.health import Health
from gateway.dispatch.hedge import race
from gateway.errors import RefusedUpstream, UpstreamBroken, UpstreamError
from gateway.providers.base import Target
from gateway.wire.chat_request import ChatRequest
from gateway.wire.reply import Reply
from tests.eventually import eventually
from tests.fakes import FakeProvider
from tests.unit.gateway.dispatch.calls import HeldLease, call, dispatcher, outcomes, target


def twins(first: FakeProvider, second: FakeProvider) -> tuple[Target, Target]:
    return target("a1", first, model="m"), target("a2", second, model="m")


class GatedProvider(FakeProvider):
    """Answers once its gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def open(self, request: ChatRequest, target: Target) -> Reply:
        await self.gate.wait()
        return await super().open(request, target)


async def test_a_second_endpoint_of_the_model_answers_for_one_that_is_silent() -> None:
    health = Health(time.monotonic)
    pair = twins(FakeProvider("hang"), FakeProvider())
    made = call(*pair, hedge_after_ms=10)

    opened = await dispatcher(*pair, health=health).open(made)

    assert opened.target is pair[1]
    assert outcomes(made) == ["hedged", "ok"]
    assert made.attempts[0]["may_cost"] is True
    assert (health.of("a1").in_flight, health.of("a2").in_flight) == (0, 1)


async def test_the_first_may_still_win() -> None:
    first = GatedProvider()
    pair = twins(first, FakeProvider("hang"))
    made = call(*pair, hedge_after_ms=10)
    task = asyncio.create_task(dispatcher(*pair).open(made))
    await eventually(lambda: len(made.attempts) == 2)
    first.gate.set()

    assert (await task).target is pair[0]
    assert [(one["endpoint"], one["outcome"]) for one in made.attempts] == [("a2", "hedged"), ("a1", "ok")]


@pytest.mark.parametrize("why_not", ["hard budget", "fallback is off", "another model", "it is usually slower"])
async def test_there_is_no_second_call_where_it_is_not_wanted(why_not: str) -> None:
    health = Health(time.monotonic)
    pair = twins(FakeProvider("hang"), FakeProvider())
    if why_not == "another model":
        pair = pair[0], target("b", FakeProvider())
    if why_not == "it is usually slower":
        health.succeeded("a1", 5000)
    made = call(
        *pair,
        hedge_after_ms=10,
        lease=HeldLease(hard=why_not == "hard budget"),
        enabled=why_not != "fallback is off",
        deadline_s=0.1,
    )

    with pytest.raises(UpstreamError):
        await dispatcher(*pair, health=health).open(made)

    assert outcomes(made) == ["deadline"]


async def test_when_the_first_fails_before_its_time_the_usual_fallback_follows() -> None:
    pair = twins(FakeProvider(UpstreamBroken("x")), FakeProvider())
    made = call(*pair, hedge_after_ms=5000)

    await dispatcher(*pair).open(made)

    assert outcomes(made) == ["upstream_broken", "ok"]


async def test_hedges_are_counted_against_the_retry_budget() -> None:
    pair = twins(FakeProvider("hang"), FakeProvider())
    calls = dispatcher(*pair)
    while calls.retries.budget.take():
        pass
    made = call(*pair, hedge_after_ms=10, deadline_s=0.05)

    with pytest.raises(UpstreamError):
        await calls.open(made)

    assert outcomes(made) == ["deadline"]


async def test_leaving_cancels_both() -> None:
    health = Health(time.monotonic)
    pair = twins(FakeProvider("hang"), FakeProvider("hang"))
    made = call(*pair, hedge_after_ms=1)
    task = asyncio.create_task(dispatcher(*pair, health=health).open(made))
    await eventually(lambda: len(made.attempts) == 2)

    task.cancel("client left")

    with pytest.raises(asyncio.CancelledError, match="client left"):
        await task
    assert outcomes(made) == ["cancelled", "cancelled"]
    assert (health.of("a1").in_flight, health.of("a2").in_flight) == (0, 0)


async def say(after_s: float, what: str | Exception) -> str:
    await asyncio.sleep(after_s)
    if isinstance(what, Exception):
        raise what
    return what


async def no_one(late: str) -> None:
    raise AssertionError(f"{late} came too late")


async def test_one_failure_leaves_the_other_and_two_tell_the_first() -> None:
    broken = UpstreamError("first")
    answer = await race(say(0.02, broken), 0.01, lambda: say(0.02, "second"), no_one)
    assert answer == "second"

    with pytest.raises(UpstreamError, match="first"):
        await race(say(0.02, broken), 0.01, lambda: say(0.03, UpstreamError("second")), no_one)


async def test_a_refusal_counts_at_once() -> None:
    refused = RefusedUpstream(400, {"message": "no"})

    with pytest.raises(RefusedUpstream):
        await race(say(0.02, refused), 0.01, lambda: say(60, "second"), no_one)


async def test_an_answer_that_comes_too_late_is_handed_over() -> None:
    late: list[str] = []

    async def keep(answer: str) -> None:
        late.append(answer)

    async def stubborn() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "too late"
        return "never"

    assert await race(stubborn(), 0.01, lambda: say(0, "second"), keep) == "second"
    assert late == ["too late"]
