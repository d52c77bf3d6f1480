"""One deadline over all tries until an answer begins."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from gateway.dispatch.deadline import Deadline
from gateway.dispatch.health import Health
from gateway.errors import UpstreamBroken, UpstreamTimeout
from tests.fakes import FakeProvider
from tests.unit.gateway.dispatch.calls import call, chat, dispatcher, outcomes, target


def soon(after_s: float) -> float:
    return asyncio.get_running_loop().time() + after_s


async def test_silence_ends_at_the_policys_deadline() -> None:
    only = target("a", FakeProvider("hang"))
    made = call(only, deadline_s=0.05)

    with pytest.raises(UpstreamTimeout, match=r"within 0\.05 s"):
        await dispatcher(only).open(made)

    assert outcomes(made) == ["deadline"]
    assert made.attempts[0]["may_cost"] is True


async def test_the_callers_own_deadline_counts_where_it_is_earlier() -> None:
    only = target("a", FakeProvider("hang"))
    begun = time.monotonic()

    with pytest.raises(UpstreamTimeout):
        await dispatcher(only).open(call(only, deadline=soon(0.05), deadline_s=5))

    assert time.monotonic() - begun < 1


async def test_a_first_event_that_does_not_come_is_bound_too() -> None:
    provider = FakeProvider([b": alive\n\n", b"~"])
    only = target("a", provider)

    with pytest.raises(UpstreamTimeout):
        await dispatcher(only).open(call(only, request=chat(stream=True), deadline=soon(0.05)))

    assert provider.closed == 1


async def test_all_endpoints_share_one_deadline() -> None:
    slow = [target("a", FakeProvider(UpstreamBroken("x"))), target("b", FakeProvider("hang"))]
    made = call(*slow, target("c", FakeProvider()), deadline=soon(0.05))

    with pytest.raises(UpstreamTimeout):
        await dispatcher(*slow, target("c", FakeProvider())).open(made)

    assert outcomes(made) == ["upstream_broken", "deadline"]


@pytest.mark.parametrize("fallback", [{}, {"hedge_after_ms": 1}, {"retries": 3}])
async def test_nobody_is_asked_once_the_time_is_over(fallback: dict[str, Any]) -> None:
    provider = FakeProvider()
    pair = [target(name, provider, model="m") for name in "ab"]
    made = call(*pair, deadline=soon(-0.01), **fallback)

    with pytest.raises(UpstreamTimeout, match="over before an endpoint could be asked"):
        await dispatcher(*pair).open(made)

    assert (made.attempts, provider.calls) == ([], [])


async def test_a_whole_answer_that_has_begun_is_not_cut() -> None:
    health = Health(time.monotonic)
    only = target("a", FakeProvider([b"~"]))
    task = asyncio.create_task(dispatcher(only, health=health).open(call(only, deadline=soon(0.02))))

    done, _ = await asyncio.wait([task], timeout=0.1)

    assert not done
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(("own_s", "fault"), [(60.0, False), (0.06, True)])
async def test_a_short_deadline_is_a_fault_only_of_an_endpoint_that_had_its_share(own_s: float, fault: bool) -> None:
    health = Health(time.monotonic)
    only = target("a", FakeProvider("hang"), first_byte_timeout_s=own_s)

    with pytest.raises(UpstreamTimeout):
        await dispatcher(only, health=health).open(call(only, deadline=soon(0.05)))

    assert health.of("a").breaker.is_suspect is fault


async def test_leaving_before_the_deadline_is_no_time_out() -> None:
    only = target("a", FakeProvider("hang"))
    task = asyncio.create_task(dispatcher(only).open(call(only, deadline=soon(5))))
    await asyncio.sleep(0)

    task.cancel("client left")

    with pytest.raises(asyncio.CancelledError, match="client left"):
        await task


async def test_leaving_in_the_very_turn_of_the_deadline_is_still_leaving() -> None:
    async def both() -> None:
        deadline = Deadline(0.0, None)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as cancelled:
            raise deadline.verdict(cancelled) from None

    task = asyncio.create_task(both())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(task.cancel)

    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
