"""Asking again: when, after how long, and never so often that an outage grows by it."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from gateway.dispatch.health import Health
from gateway.dispatch.retries import FLOOR, MOST_SAVED, Circumstances, Retries, RetryBudget, may_pass
from gateway.errors import (
    ContextTooLong,
    GatewayError,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamError,
    UpstreamLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from tests.eventually import eventually
from tests.fakes import WHOLE, FakeProvider
from tests.unit.gateway.dispatch.calls import call, dispatcher, outcomes, target

# Until three have failed in a row nobody knows that an endpoint is ill, and calls go on to the next one.
FIRST_FAILURES = 3


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Upstream:
    """Fails with these errors in turn, then answers; remembers the loop's time of each call."""

    def __init__(self, *errors: GatewayError) -> None:
        self.errors = list(errors)
        self.asked_at: list[float] = []

    async def ask(self) -> str:
        self.asked_at.append(asyncio.get_running_loop().time())
        if self.errors:
            raise self.errors.pop(0)
        return "well"


def circumstances(
    retries: int = 3, left_s: float = 60.0, paused_s: float = 0.0, alternative: bool = False
) -> Circumstances:
    return Circumstances(retries, lambda: left_s, lambda: paused_s, alternative)


def retries(seed: int = 1) -> Retries:
    return Retries(RetryBudget(Clock()), random.Random(seed))


async def test_it_asks_until_it_is_well_with_pauses_that_grow() -> None:
    upstream = Upstream(UpstreamError("2"), UpstreamError("3"))
    begun = asyncio.get_running_loop().time()

    answer = await retries(seed=3).again(UpstreamError("1"), upstream.ask, circumstances())

    pauses = [later - earlier for earlier, later in zip([begun, *upstream.asked_at], upstream.asked_at, strict=False)]
    assert answer == "well"
    assert all(pause < 0.1 * 2**turn + 0.05 for turn, pause in enumerate(pauses))
    assert len(pauses) == 3


async def test_after_the_last_retry_the_last_failure_is_told() -> None:
    upstream = Upstream(*(UpstreamError(str(number)) for number in range(9)))

    with pytest.raises(UpstreamError, match="1"):
        await retries().again(UpstreamError("first"), upstream.ask, circumstances(retries=2))

    assert len(upstream.asked_at) == 2


@pytest.mark.parametrize("error", [UpstreamAuth("key"), UpstreamTimeout("late"), ContextTooLong("long")])
async def test_what_will_not_pass_is_told_at_once(error: GatewayError) -> None:
    upstream = Upstream(error, UpstreamError("never seen"))

    with pytest.raises(type(error)):
        await retries().again(UpstreamError("1"), upstream.ask, circumstances())

    assert len(upstream.asked_at) == 1
    assert not may_pass(error)


async def test_an_upstream_that_names_a_time_is_asked_then() -> None:
    upstream = Upstream()
    begun = asyncio.get_running_loop().time()

    await retries().again(UpstreamLimited("busy", retry_after_s=0.2), upstream.ask, circumstances(paused_s=0.2))

    assert 0.2 <= upstream.asked_at[0] - begun < 0.3


@pytest.mark.parametrize(
    "case",
    [
        circumstances(left_s=1.0),  # no time to wait and then to answer
        circumstances(alternative=True, left_s=60.0),  # somebody else would answer at once
        circumstances(paused_s=10.0),  # the breaker has opened for longer than that
        circumstances(retries=0),
    ],
)
async def test_nobody_waits_where_waiting_is_not_worth_it(case: Circumstances) -> None:
    upstream = Upstream()

    with pytest.raises(UpstreamLimited):
        await retries().again(UpstreamLimited("busy", retry_after_s=2.0), upstream.ask, case)

    assert upstream.asked_at == []


def test_the_budget_is_a_tenth_of_the_requests_and_a_floor() -> None:
    budget = RetryBudget(Clock())
    for _ in range(200):
        budget.earn()

    taken = sum(budget.take() for _ in range(200))

    assert taken == pytest.approx(FLOOR + 20, abs=1)


def test_the_floor_fills_by_itself_and_no_more_is_saved_than_a_bound() -> None:
    clock = Clock()
    budget = RetryBudget(clock)
    while budget.take():
        pass
    clock.now += 5
    assert sum(budget.take() for _ in range(20)) == 5

    for _ in range(100_000):
        budget.earn()
    assert sum(budget.take() for _ in range(1000)) == MOST_SAVED


async def test_the_same_endpoint_is_asked_again_before_another_model() -> None:
    first, other = target("a", FakeProvider(UpstreamError("x"), [WHOLE])), target("b", FakeProvider())
    made = call(first, other, retries=1)

    assert (await dispatcher(first, other).open(made)).target is first
    assert outcomes(made) == ["upstream_error", "ok"]


async def test_another_endpoint_of_the_model_is_asked_before_the_same_one_again() -> None:
    first, twin = target("a1", FakeProvider(UpstreamError("x")), model="m"), target("a2", FakeProvider(), model="m")
    made = call(first, twin, retries=1)

    assert (await dispatcher(first, twin).open(made)).target is twin
    assert outcomes(made) == ["upstream_error", "ok"]


async def test_without_fallback_the_chosen_endpoint_is_still_asked_again() -> None:
    first, other = target("a", FakeProvider(UpstreamError("x"), [WHOLE])), target("b", FakeProvider())

    assert (await dispatcher(first, other).open(call(first, other, retries=1, enabled=False))).target is first


async def test_a_long_retry_after_sends_the_call_to_another_model_at_once() -> None:
    first, other = target("a", FakeProvider(UpstreamLimited("x", retry_after_s=5))), target("b", FakeProvider())
    made = call(first, other, retries=1)

    assert (await dispatcher(first, other).open(made)).target is other
    assert outcomes(made) == ["rate_limit_exceeded", "ok"]


async def test_leaving_ends_the_pause_before_a_retry() -> None:
    only = target("a", FakeProvider(UpstreamLimited("x", retry_after_s=5)))
    made = call(only, retries=1)
    task = asyncio.create_task(dispatcher(only).open(made))
    await eventually(lambda: made.attempts, every_s=0)

    task.cancel("client left")

    with pytest.raises(asyncio.CancelledError, match="client left"):
        await task
    assert outcomes(made) == ["rate_limit_exceeded"]


@pytest.mark.parametrize("endpoints", [1, 3])
@pytest.mark.parametrize("failure", [UpstreamUnavailable("down"), UpstreamBroken("html")])
async def test_a_dead_upstream_sees_little_more_than_the_calls_that_were_made(
    endpoints: int, failure: UpstreamError
) -> None:
    dead = FakeProvider(failure)
    targets = [target(f"a{number}", dead) for number in range(endpoints)]
    calls = dispatcher(*targets, health=Health(time.monotonic))

    results = await asyncio.gather(*(calls.open(call(*targets, retries=5)) for _ in range(500)), return_exceptions=True)

    assert all(isinstance(result, UpstreamError) for result in results)
    assert len(dead.calls) <= 500 * 1.1 + FLOOR + FIRST_FAILURES * endpoints


async def test_without_budget_the_failure_is_told_at_once() -> None:
    spent, upstream = retries(), Upstream()
    while spent.budget.take():
        pass

    with pytest.raises(UpstreamError):
        await spent.again(UpstreamError("1"), upstream.ask, circumstances())

    assert upstream.asked_at == []


async def test_an_endpoint_known_to_be_ill_is_a_second_choice_only_within_the_budget() -> None:
    health = Health(time.monotonic)
    pair = [target(name, FakeProvider(UpstreamBroken("x"))) for name in "ab"]
    calls, made = dispatcher(*pair, health=health), call(*pair)
    for name in "ab":
        health.failed(name, retry_after_s=60)
    while calls.retries.budget.take():
        pass

    with pytest.raises(UpstreamBroken):
        await calls.open(made)

    assert len(made.attempts) == 1
