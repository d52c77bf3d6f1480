"""Retries, hedges, time-outs and departures against real sockets: our client, our provider, a scripted upstream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.dispatch.dispatch import Call, Dispatcher
from gateway.dispatch.retries import FLOOR
from gateway.errors import GatewayError, UpstreamTimeout
from gateway.providers.h1_client import H1Client
from gateway.providers.openai import OpenAIProvider
from tests.eventually import eventually
from tests.integration.scripted_upstream import HANG, ScriptedUpstream, answer, fault, first_of_stream, scripted
from tests.quickest import quickest, within
from tests.unit.gateway.dispatch.calls import call, chat, dispatcher, outcomes, target

PROMPTLY_S = 0.2


@pytest.fixture
async def provider() -> AsyncIterator[OpenAIProvider]:
    found = OpenAIProvider(H1Client(), 1_000_000)
    yield found
    await found.close()


def one_endpoint(provider: OpenAIProvider, url: str, **fallback: Any) -> tuple[Dispatcher, Call]:
    only = target("a", provider, base_url=url)
    return dispatcher(only), call(only, **fallback)


async def test_a_fault_that_passes_is_not_seen_by_the_client(provider: OpenAIProvider) -> None:
    async with scripted(fault(500), answer()) as upstream:
        calls, made = one_endpoint(provider, upstream.url, retries=1)

        assert b'"hi"' in (await calls.open(made)).first

    assert outcomes(made) == ["upstream_error", "ok"]


@quickest
async def test_retry_after_is_honoured_where_it_fits(provider: OpenAIProvider) -> None:
    async with scripted(fault(429, "retry-after: 0.3\r\n"), answer()) as upstream:
        calls, made = one_endpoint(provider, upstream.url, retries=1)

        await calls.open(made)

        pause_s = upstream.asked_at[1] - upstream.asked_at[0]
        assert pause_s >= 0.3
        within(0.5, pause_s)


@pytest.mark.parametrize("status", [400, 401, 413, 422])
async def test_what_another_try_cannot_mend_is_asked_once(provider: OpenAIProvider, status: int) -> None:
    async with scripted(fault(status)) as upstream:
        calls, made = one_endpoint(provider, upstream.url, retries=3)

        with pytest.raises(GatewayError):
            await calls.open(made)

        assert len(upstream.asked_at) == 1


async def test_five_hundred_calls_at_once_do_not_amplify_an_outage(provider: OpenAIProvider) -> None:
    async with scripted(fault(500)) as upstream:
        upstream.waits_for = 500  # else the first failures may pause the endpoint before the others have left
        only = target("a", provider, base_url=upstream.url)
        calls = dispatcher(only)

        results = await asyncio.gather(*(calls.open(call(only, retries=3)) for _ in range(500)), return_exceptions=True)

        assert all(isinstance(result, GatewayError) for result in results)
        assert 500 <= len(upstream.asked_at) <= 500 * 1.1 + FLOOR


@quickest
async def test_the_deadline_cuts_a_silent_upstream_short(provider: OpenAIProvider) -> None:
    async with scripted(HANG) as upstream:
        calls, made = one_endpoint(provider, upstream.url, deadline_s=0.1)

        with pytest.raises(UpstreamTimeout):
            await calls.open(made)
        await asyncio.wait_for(upstream.left.wait(), 5)

        within(0.1 + PROMPTLY_S, upstream.left_at[0] - upstream.asked_at[0])


@quickest
async def test_the_loser_of_a_race_is_hung_up_on(provider: OpenAIProvider) -> None:
    async with scripted(HANG) as silent, scripted(answer()) as quick:
        pair = [target(name, provider, base_url=url, model="m") for name, url in (("1", silent.url), ("2", quick.url))]
        made = call(*pair, hedge_after_ms=50)

        opened = await dispatcher(*pair).open(made)
        won = asyncio.get_running_loop().time()
        await asyncio.wait_for(silent.left.wait(), 5)
        within(PROMPTLY_S, silent.left_at[0] - won)

    assert opened.target is pair[1]
    assert outcomes(made) == ["hedged", "ok"]


async def leave(task: asyncio.Task[Any], upstream: ScriptedUpstream) -> float:
    """Cancel as the route does when a client hangs up; seconds until the upstream knows."""
    began = asyncio.get_running_loop().time()
    task.cancel("client left")
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(upstream.left.wait(), 5)
    return upstream.left_at[-1] - began


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("phase", ["connecting", "waiting", "hedging"])
@quickest
async def test_leaving_before_the_first_byte_is_known_upstream_at_once(
    provider: OpenAIProvider, phase: str, stream: bool
) -> None:
    async with scripted(HANG, mute=phase == "connecting") as upstream:
        url = upstream.url.replace("http:", "https:") if phase == "connecting" else upstream.url
        pair = [target(name, provider, base_url=url, model="m") for name in "ab"]
        made = call(*pair, request=chat(stream=stream), hedge_after_ms=20 if phase == "hedging" else None)
        task = asyncio.create_task(dispatcher(*pair).open(made))
        await eventually(upstream.arrived.is_set)
        await eventually(lambda: phase != "hedging" or len(upstream.asked_at) == 2)

        within(PROMPTLY_S, await leave(task, upstream))


@quickest
async def test_leaving_while_frames_come_is_known_upstream_at_once(provider: OpenAIProvider) -> None:
    async with scripted(first_of_stream()) as upstream:
        only = target("a", provider, base_url=upstream.url)
        calls, request = dispatcher(only), chat(stream=True)
        task = asyncio.create_task(read_all(calls, call(only, request=request)))
        await eventually(upstream.arrived.is_set)
        await asyncio.sleep(0.02)

        within(PROMPTLY_S, await leave(task, upstream))


async def read_all(calls: Dispatcher, made: Call) -> None:
    """As the pipeline does."""
    opened = await calls.open(made)
    try:
        async for _ in opened.frames:
            pass
    finally:
        await opened.reply.frames.aclose()


@quickest
async def test_leaving_during_the_pause_before_a_retry_ends_it_at_once(provider: OpenAIProvider) -> None:
    async with scripted(fault(429, "retry-after: 5\r\n"), answer()) as upstream:
        calls, made = one_endpoint(provider, upstream.url, retries=1)
        task = asyncio.create_task(calls.open(made))
        await eventually(lambda: outcomes(made) == ["rate_limit_exceeded"])
        began = asyncio.get_running_loop().time()

        task.cancel("client left")
        await asyncio.wait([task])

        assert len(upstream.asked_at) == 1
        within(PROMPTLY_S, asyncio.get_running_loop().time() - began)


async def test_after_the_first_byte_nothing_is_switched(provider: OpenAIProvider) -> None:
    cut = first_of_stream() + b"0\r\n\r\n"
    async with scripted(cut) as broken, scripted(answer()) as other:
        pair = [target(name, provider, base_url=url) for name, url in (("a", broken.url), ("b", other.url))]
        opened = await dispatcher(*pair).open(call(*pair, request=chat(stream=True), retries=3))

        frames = [frame async for frame in opened.frames]
        with pytest.raises(GatewayError):
            opened.meter.end_of_stream()
        await opened.reply.frames.aclose()

    assert frames == []
    assert other.asked_at == []
