"""Fallback: only before the first byte, in the declared order, within budgets, never for the request's own fault."""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from gateway.dispatch.health import Health
from gateway.errors import (
    ContextTooLong,
    GatewayError,
    RefusedUpstream,
    UpstreamBroken,
    UpstreamLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from tests.eventually import eventually
from tests.fakes import WHOLE, FakeProvider
from tests.unit.gateway.dispatch.calls import HERE, HeldLease, call, chat, dispatcher, outcomes, target


@pytest.mark.parametrize(
    "failure", [UpstreamTimeout("late"), UpstreamBroken("html"), UpstreamLimited("slow down"), ContextTooLong("long")]
)
async def test_the_next_in_the_ranking_answers_when_the_first_fails(failure: GatewayError) -> None:
    first, second = target("a", FakeProvider(failure)), target("b", FakeProvider())
    made = call(first, second)

    opened = await dispatcher(first, second).open(made)

    assert opened.target is second
    assert outcomes(made) == [failure.code, "ok"]


async def test_a_refused_request_is_asked_nowhere_else_and_never_again() -> None:
    first, second = FakeProvider(RefusedUpstream(400, {"message": "no", "code": "c"})), FakeProvider()
    refused = target("a", first), target("b", second)

    with pytest.raises(RefusedUpstream):
        await dispatcher(*refused).open(call(*refused, retries=3))

    assert (first.calls, second.calls) == (["a"], [])


async def test_a_broken_first_frame_is_closed_and_another_endpoint_asked() -> None:
    broken, good = FakeProvider([b"{not json"]), FakeProvider([WHOLE])
    targets = target("a", broken), target("b", good)

    opened = await dispatcher(*targets).open(call(*targets))

    assert broken.closed == 1
    assert msgspec.json.decode(opened.first)["choices"][0]["message"]["content"] == "hi"


async def test_an_empty_answer_is_a_broken_one() -> None:
    only = target("a", FakeProvider([]))

    with pytest.raises(UpstreamBroken):
        await dispatcher(only).open(call(only))


async def test_the_last_failure_is_told_and_every_failure_counts_against_health() -> None:
    health = Health(lambda: 0.0)
    targets = (
        target("a", FakeProvider(UpstreamBroken("x"))),
        target("b", FakeProvider(UpstreamLimited("y", retry_after_s=9))),
    )

    with pytest.raises(UpstreamLimited) as told:
        await dispatcher(*targets, health=health).open(call(*targets))

    assert told.value.message == "b: y"
    assert health.paused_s("b") == 9
    assert health.of("a").breaker.is_suspect


@pytest.mark.parametrize(("bounds", "tries"), [({"enabled": False}, 1), ({"max_attempts": 2}, 2)])
async def test_there_are_as_many_tries_as_the_policy_allows(bounds: dict[str, Any], tries: int) -> None:
    targets = [target(name, FakeProvider(UpstreamBroken("x"))) for name in "abcd"]
    made = call(*targets, **bounds)

    with pytest.raises(UpstreamBroken):
        await dispatcher(*targets).open(made)

    assert len(made.attempts) == tries


async def test_an_unreachable_host_is_not_tried_again_under_another_name() -> None:
    same = [target(name, FakeProvider(UpstreamUnavailable("x"))) for name in "ab"]
    other = target("c", FakeProvider(), base_url="http://127.0.0.1:8/v1")

    opened = await dispatcher(*same, other).open(call(*same, other, max_attempts=2))

    assert opened.target is other


async def test_the_last_try_goes_to_the_model_in_this_process() -> None:
    down = [target(name, FakeProvider(UpstreamBroken("x"))) for name in "abcd"]
    here = target("here", FakeProvider(), kind="local")

    opened = await dispatcher(*down, here).open(call(*down, here, max_attempts=3))

    assert opened.target is here


async def test_where_there_is_one_try_only_it_goes_to_the_chosen_one() -> None:
    chosen, here = target("a", FakeProvider()), target("here", FakeProvider(), kind="local")

    opened = await dispatcher(chosen, here).open(call(chosen, here, enabled=False))

    assert opened.target is chosen


async def test_a_comment_is_no_answer_yet() -> None:
    alive = b": still here\n\n"
    talks_then_fails = target("a", FakeProvider([alive, alive, b"!lost"]))
    good = target("b", FakeProvider([alive, b"data: {}\n\n"]))

    opened = await dispatcher(talks_then_fails, good).open(call(talks_then_fails, good, request=chat(stream=True)))

    assert opened.target is good
    assert opened.first == alive + b"data: {}\n\n"


async def test_the_first_call_goes_where_the_lease_was_granted() -> None:
    targets = target("dear", FakeProvider()), target("cheap", FakeProvider())

    opened = await dispatcher(*targets).open(call(*targets, lease=HeldLease(place=1)))

    assert opened.target is targets[1]


async def test_an_endpoint_that_budgets_do_not_cover_is_skipped_and_costs_no_try() -> None:
    lease = HeldLease(refused=["b"])
    targets = target("a", FakeProvider(UpstreamBroken("x"))), target("b", FakeProvider()), target("c", FakeProvider())
    made = call(*targets, lease=lease, max_attempts=2)

    opened = await dispatcher(*targets).open(made)

    assert opened.target is targets[2]
    assert outcomes(made) == ["upstream_broken", "budget", "ok"]
    assert lease.moves == ["b", "c"]


async def test_where_budgets_cover_nothing_else_the_failure_is_told() -> None:
    targets = target("a", FakeProvider(UpstreamBroken("x"))), target("b", FakeProvider())

    with pytest.raises(UpstreamBroken):
        await dispatcher(*targets).open(call(*targets, lease=HeldLease(refused=["b"])))


async def test_a_sibling_that_needs_the_same_is_not_asked_for_at_the_store() -> None:
    lease = HeldLease()
    targets = target("a", FakeProvider(UpstreamBroken("x")), model="m"), target("b", FakeProvider(), model="m")
    made = call(*targets, lease=lease)
    made.needs = [made.needs[0]] * 2

    await dispatcher(*targets).open(made)

    assert lease.moves == []


async def test_a_sibling_is_asked_for_where_a_hard_budget_s_reservation_was_lost_on_the_way() -> None:
    lease = HeldLease(hard=True, refused=["b"])
    targets = target("a", FakeProvider(UpstreamBroken("x")), model="m"), target("b", FakeProvider(), model="m")
    made = call(*targets, lease=lease)
    made.needs = [made.needs[0], replace(made.needs[0], endpoint_id="b")]

    with pytest.raises(UpstreamBroken):
        await dispatcher(*targets).open(made)

    assert lease.moves == ["b"]


@pytest.mark.parametrize(
    ("hard", "stream", "reasoning", "cap"),
    [(True, False, False, 7), (True, True, False, None), (True, True, True, 7), (False, False, True, None)],
)
async def test_output_is_capped_where_a_hard_budget_cannot_watch_it_grow(
    hard: bool, stream: bool, reasoning: bool, cap: int | None
) -> None:
    provider = FakeProvider([b"data: {}\n\n"] if stream else [WHOLE])
    only = target("a", provider, reasoning=reasoning)

    await dispatcher(only).open(call(only, request=chat(stream=stream), lease=HeldLease(hard=hard)))

    assert provider.requests[-1].cap_tokens == cap


async def test_several_answers_share_what_is_set_aside_for_them_all() -> None:
    provider = FakeProvider([WHOLE])
    only = target("a", provider)

    await dispatcher(only).open(call(only, request=chat(n=3), lease=HeldLease(hard=True)))

    assert provider.requests[-1].cap_tokens == 2  # of 7


@pytest.mark.parametrize(
    ("failure", "may_cost"), [(UpstreamTimeout("x"), True), (UpstreamBroken("x"), True), (UpstreamLimited("x"), False)]
)
async def test_a_try_that_the_vendor_may_charge_for_is_marked(failure: GatewayError, may_cost: bool) -> None:
    targets = target("a", FakeProvider(failure)), target("b", FakeProvider())
    made = call(*targets)

    await dispatcher(*targets).open(made)

    assert made.attempts[0].get("may_cost", False) is may_cost


async def test_calls_in_flight_count_until_their_frames_are_closed() -> None:
    health = Health(time.monotonic)
    only = target("a", FakeProvider())

    opened = await dispatcher(only, health=health).open(call(only))

    assert health.of("a").in_flight == 1
    await opened.reply.frames.aclose()
    await opened.reply.frames.aclose()
    assert health.of("a").in_flight == 0


async def test_frames_that_were_forgotten_or_never_opened_are_in_flight_no_more() -> None:
    health = Health(time.monotonic)
    targets = target("a", FakeProvider(UpstreamBroken("x"))), target("b", FakeProvider())

    opened = await dispatcher(*targets, health=health).open(call(*targets))
    del opened
    gc.collect()

    assert [health.of(name).in_flight for name in "ab"] == [0, 0]


async def test_a_paused_endpoint_is_passed_over_where_another_is_well() -> None:
    health = Health(time.monotonic)
    targets = target("a", FakeProvider()), target("b", FakeProvider())
    health.failed("a", retry_after_s=60)

    opened = await dispatcher(*targets, health=health).open(call(*targets))

    assert opened.target is targets[1]


async def test_a_pinned_model_is_called_although_it_is_paused() -> None:
    health = Health(time.monotonic)
    only = target("a", FakeProvider())
    health.failed("a", retry_after_s=60)

    assert (await dispatcher(only, health=health).open(call(only))).target is only


async def test_an_endpoint_that_was_disabled_meanwhile_is_passed_over() -> None:
    gone, other = target("a", FakeProvider()), target("b", FakeProvider(), base_url="http://127.0.0.1:8")
    made = call(gone, other)

    assert (await dispatcher(other).open(made)).target is other
    assert outcomes(made) == ["upstream_auth", "ok"]


async def test_leaving_while_an_endpoint_is_asked_closes_nothing_but_that_call() -> None:
    provider = FakeProvider("hang")
    only = target("a", provider, base_url=HERE)
    made = call(only)
    task = asyncio.create_task(dispatcher(only).open(made))
    await eventually(lambda: provider.calls, every_s=0)

    task.cancel("client left")

    with pytest.raises(asyncio.CancelledError, match="client left"):
        await task
    assert outcomes(made) == ["cancelled"]
    assert made.attempts[0]["may_cost"] is True


async def test_what_a_call_waited_for_its_turn_is_not_held_against_the_endpoint() -> None:
    class Line:
        def wait_ms(self, wire_model: str) -> float:
            return 1e6

    health = Health(time.monotonic)
    busy = replace(target("a", FakeProvider()), queue=Line())
    made = call(busy)

    await dispatcher(busy, health=health).open(made)

    assert health.latency_ms("a") == pytest.approx(made.attempts[0]["ms"] / 10, rel=0.01, abs=0.001)
