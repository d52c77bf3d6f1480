"""Requests that come at once: one asks, the others get its answer, and nobody waits for who is gone."""

from __future__ import annotations

import asyncio

import pytest

from gateway.cache.base import Stored
from gateway.cache.flights import Flight, Flights
from tests.eventually import eventually

ANSWER = Stored("1", "key:k", "p", "x", "general", b"{}", "m", "e", 0.0, 10.0)


async def waiting(flights: Flights, count: int) -> tuple[list[Flight], list[asyncio.Task[Stored | None]]]:
    """Those who come after the first."""
    joined = [flights.join("x") for _ in range(count)]
    tasks = [asyncio.create_task(one.answer()) for one in joined]
    await asyncio.sleep(0)
    return joined, tasks


async def test_the_first_leads_and_all_others_get_its_answer() -> None:
    flights = Flights()
    first = flights.join("x")
    others, tasks = await waiting(flights, 3)

    first.land(ANSWER)

    assert first.leads and not any(one.leads for one in others)
    assert await asyncio.gather(*tasks) == [ANSWER] * 3
    assert not len(flights)


async def test_where_the_leader_fails_one_of_the_others_leads() -> None:
    flights = Flights()
    first = flights.join("x")
    others, tasks = await waiting(flights, 3)

    first.land(None)

    assert await tasks[0] is None
    assert [one.leads for one in others] == [True, False, False]
    others[0].land(ANSWER)
    assert await asyncio.gather(*tasks[1:]) == [ANSWER] * 2


async def test_who_leaves_while_it_waits_is_not_made_the_leader() -> None:
    flights = Flights()
    first = flights.join("x")
    others, tasks = await waiting(flights, 2)
    tasks[0].cancel()
    await eventually(tasks[0].done)

    first.land(None)

    assert await tasks[1] is None and others[1].leads


async def test_who_leaves_at_the_moment_it_is_made_the_leader_passes_that_on() -> None:
    flights = Flights()
    first = flights.join("x")
    others, tasks = await waiting(flights, 2)

    first.land(None)
    tasks[0].cancel()

    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert await tasks[1] is None and others[1].leads


async def test_nobody_waits_longer_than_the_bound_and_then_each_asks_for_itself() -> None:
    flights = Flights(longest_s=0.01)
    flights.join("x")
    others, tasks = await waiting(flights, 1)

    assert await tasks[0] is None and not others[0].leads


async def test_who_has_led_for_too_long_is_not_waited_for() -> None:
    now = [0.0]
    flights = Flights(longest_s=5.0, clock=lambda: now[0])
    late = flights.join("x")
    now[0] = 6.0

    assert flights.join("x").leads
    late.land(None)
    assert not flights.join("x").leads


async def test_other_requests_do_not_wait() -> None:
    flights = Flights()

    assert flights.join("x").leads and flights.join("y").leads


@pytest.mark.parametrize("stored", [ANSWER, None])
async def test_one_who_leaves_at_the_moment_of_the_answer_spoils_it_for_nobody(stored: Stored | None) -> None:
    flights = Flights()
    first = flights.join("x")
    others, tasks = await waiting(flights, 2)

    tasks[0].cancel("client left")
    first.land(stored)

    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert await tasks[1] is stored and others[1].leads == (stored is None)
    assert len(flights) == (stored is None)


async def test_where_nothing_can_be_shared_all_ask_at_once() -> None:
    flights = Flights()
    first = flights.join("x")
    others, tasks = await waiting(flights, 3)

    first.release()

    assert await asyncio.gather(*tasks) == [None] * 3 and not any(one.leads for one in others)
    assert not len(flights) and flights.join("x").leads
