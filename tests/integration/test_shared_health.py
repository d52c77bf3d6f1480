"""Workers share their breakers over a real Redis; one that is frozen or dead changes nothing locally."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator

import pytest

from gateway.dispatch.breaker import FAILURES_TO_OPEN, PAUSE_S, VERDICT_S
from gateway.dispatch.health import Health
from gateway.dispatch.shared_health import RedisSharedState, SharedHealth
from gateway.redis_link import RedisLink
from tests.eventually import eventually
from tests.integration.redis_server import RedisServer, redis_running, redis_server

__all__ = ["redis_running", "redis_server"]

POLL_S = 0.02


@pytest.fixture
async def link(redis_server: RedisServer) -> AsyncIterator[RedisLink]:
    link = RedisLink(redis_server.url)
    await link.start()
    yield link
    await link.close()


@pytest.fixture
async def workers(link: RedisLink) -> AsyncIterator[list[Health]]:
    healths = [Health(time.monotonic) for _ in range(3)]
    sharing = [SharedHealth(one, RedisSharedState(link), time.monotonic, POLL_S) for one in healths]
    for one in sharing:
        await one.start()
    yield healths
    for one in sharing:
        await one.close()


def break_down(health: Health) -> None:
    for _ in range(FAILURES_TO_OPEN):
        health.failed("a/b:c")


async def test_what_was_published_is_read_with_the_time_that_is_left(link: RedisLink) -> None:
    state = RedisSharedState(link)
    await state.publish("long", 10.0)
    await state.publish("short", 0.03)
    await state.publish("well again", 10.0)
    await state.publish("well again", 0.0)
    await asyncio.sleep(0.04)

    left = await state.read()

    assert list(left) == ["long"]
    assert 9.5 < left["long"] <= 10.0
    assert await link.call("HLEN", "fingerpost:paused") == 1
    assert await link.call("PTTL", "fingerpost:paused") > 60_000


async def test_a_worker_that_finds_an_endpoint_dead_spares_the_others(workers: list[Health]) -> None:
    break_down(workers[0])

    await eventually(lambda: all(one.paused_s("a/b:c") > 0 for one in workers))
    assert all(one.paused_s("a/b:c") <= PAUSE_S + VERDICT_S for one in workers)

    workers[0].succeeded("a/b:c", 5)
    await eventually(lambda: not any(one.paused_s("a/b:c") for one in workers))


@pytest.mark.parametrize("how", ["frozen", "killed"])
async def test_without_redis_each_worker_goes_by_what_it_sees(
    how: str, workers: list[Health], redis_server: RedisServer
) -> None:
    if how == "frozen":
        redis_server.freeze()
    else:
        redis_server.stop(signal.SIGKILL)
    break_down(workers[0])
    await asyncio.sleep(5 * POLL_S)

    assert [one.paused_s("a/b:c") > 0 for one in workers] == [True, False, False]
    if how == "frozen":
        redis_server.thaw()
    else:
        redis_server.start()
    await eventually(lambda: all(one.paused_s("a/b:c") > 0 for one in workers))
