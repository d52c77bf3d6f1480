"""Requests that come at once: one asks, the others get its answer, and nobody waits for who is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.cache.base import Stored
from gateway.cache.broadcast import Broadcast, Seat
from gateway.cache.flights import Flight, Flights, Word
from tests.eventually import eventually

ANSWER = Stored("1", "key:k", "p", "x", "general", b"{}", "m", "e", 0.0, 10.0)


async def waiting(flights: Flights, count: int) -> tuple[list[Flight], list[asyncio.Task[Word]]]:
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
    assert await asyncio.gather(*tasks) == [Word(ANSWER)] * 3
    assert not len(flights)


async def test_where_the_leader_fails_one_of_the_others_leads() -> None:
    flights = Flights()
    first = flights.join("x")
    others, tasks = await waiting(flights, 3)

    first.land(None)

    assert await tasks[0] == Word(leads=True)
    assert [one.leads for one in others] == [True, False, False]
    others[0].land(ANSWER)
    assert await asyncio.gather(*tasks[1:]) == [Word(ANSWER)] * 2


async def test_who_leaves_while_it_waits_is_not_made_the_leader() -> None:
    flights = Flights()
    first = flights.join("x")
    others, tasks = await waiting(flights, 2)
    tasks[0].cancel()
    await eventually(tasks[0].done)

    first.land(None)

    assert await tasks[1] == Word(leads=True) and others[1].leads


async def test_who_leaves_at_the_moment_it_is_made_the_leader_passes_that_on() -> None:
    flights = Flights()
    first = flights.join("x")
    others, tasks = await waiting(flights, 2)

    first.land(None)
    tasks[0].cancel()

    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert await tasks[1] == Word(leads=True) and others[1].leads


async def test_nobody_waits_longer_than_the_bound_and_then_each_asks_for_itself() -> None:
    flights = Flights(longest_s=0.01)
    flights.join("x")
    others, tasks = await waiting(flights, 1)

    assert await tasks[0] == Word() and not others[0].leads


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
    assert await tasks[1] == Word(stored, leads=stored is None) and others[1].leads == (stored is None)
    assert len(flights) == (stored is None)


async def test_where_nothing_can_be_shared_all_ask_at_once() -> None:
    flights = Flights()
    first = flights.join("x")
    others, tasks = await waiting(flights, 3)

    first.release()

    assert await asyncio.gather(*tasks) == [Word()] * 3 and not any(one.leads for one in others)
    assert not len(flights) and flights.join("x").leads


class Cast:
    """A stream; whoever boards it gets a seat once it is `open`."""

    def __init__(self) -> None:
        self.cast = Broadcast(ANSWER)
        self.open = True

    def admits(self, payer: str) -> bool:
        return payer == "a"

    def board(self) -> Seat | None:
        return self.cast.seat() if self.open else None


class Held:
    """A lease, which notes how it ended."""

    def __init__(self) -> None:
        self.ends: list[tuple[bool, bool]] = []

    def end(self, *, kept: bool, each: bool = False) -> None:
        self.ends.append((kept, each))


async def test_who_streams_comes_along_and_who_does_not_waits_for_the_end() -> None:
    flights, live = Flights(), Cast()
    first = flights.join("x")
    streaming, whole = flights.join("x", streams="a"), flights.join("x")
    assert first.is_awaited

    first.share(live)

    assert (await streaming.answer()).seat is not None and not first.is_awaited
    assert (await flights.join("x", streams="a").answer()).seat is not None
    first.land(ANSWER)
    assert await whole.answer() == Word(ANSWER) and live.cast.readers == 2


async def test_who_comes_between_two_frames_waits_for_the_next() -> None:
    flights, live = Flights(), Cast()
    first = flights.join("x")
    live.open = False
    first.share(live)
    waits = flights.join("x", streams="a")
    assert first.is_awaited

    live.open = True
    first.share(live)

    assert (await waits.answer()).seat is not None


async def test_who_leaves_as_it_gets_its_seat_leaves_it_too() -> None:
    flights, live = Flights(), Cast()
    first = flights.join("x")
    waiting = asyncio.create_task(flights.join("x", streams="a").answer())
    await asyncio.sleep(0)

    first.share(live)
    waiting.cancel()
    await asyncio.wait({waiting})

    assert not live.cast.readers


async def test_a_long_stream_is_joined_when_nobody_waits_for_its_end_any_more() -> None:
    now = [0.0]
    flights = Flights(longest_s=5.0, clock=lambda: now[0])
    first = flights.join("x")
    first.share(Cast())

    now[0] = 60.0

    assert not flights.join("x", streams="a").leads and flights.join("x").leads


async def test_who_comes_while_the_answer_is_on_its_way_to_the_store_gets_it_too() -> None:
    flights, lease = Flights(), Held()
    first = flights.join("x")
    first.hold(lease)
    put: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    first.land(ANSWER, put)

    assert await flights.join("x").answer() == Word(ANSWER)
    assert not lease.ends
    put.set_result(True)
    await asyncio.sleep(0)

    assert lease.ends == [(True, False)] and not len(flights)


@pytest.mark.parametrize(
    ("ended", "end"),
    [
        (lambda flight: flight.land(None), (False, False)),
        (lambda flight: flight.land(ANSWER), (False, False)),
        (lambda flight: flight.release(), (False, True)),
        (lambda flight: flight.release(again=True), (False, False)),
    ],
    ids=["failed", "not put", "not to be kept", "waits itself"],
)
async def test_a_lease_ends_with_its_flight_and_not_before(
    ended: Callable[[Flight], None], end: tuple[bool, bool]
) -> None:
    flights, lease, over = Flights(), Held(), list[str]()
    first = flights.join("x")
    first.hold(lease)
    first.when_over(lambda: over.append("over"))
    heir = flights.join("x")
    first.land(None)
    assert (await heir.answer()).leads and heir.has_lease and not lease.ends

    ended(heir)

    assert lease.ends == [end] and over == ["over"]


async def test_an_answer_that_could_not_be_put_was_not_kept() -> None:
    flights, lease = Flights(), Held()
    first = flights.join("x")
    first.hold(lease)
    put: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    first.land(ANSWER, put)

    put.set_exception(RuntimeError("a bug"))
    await asyncio.sleep(0)

    assert lease.ends == [(False, False)] and not len(flights)


async def test_who_waits_by_likeness_gets_the_answer_but_never_leads() -> None:
    flights = Flights()
    assert flights.attend("x") is None
    first = flights.join("x")
    alike, equal = flights.attend("x"), flights.join("x")
    assert alike is not None

    first.land(None)
    assert (await equal.answer()).leads and len(flights) == 1
    equal.land(None)

    assert await alike.answer() == Word() and not len(flights)


async def test_who_may_not_come_along_waits_for_the_end_and_not_for_long() -> None:
    now = [0.0]
    flights = Flights(longest_s=5.0, clock=lambda: now[0])
    first = flights.join("x")
    early = flights.join("x", streams="b")

    first.share(Cast())
    late = flights.join("x", streams="b")
    now[0] = 6.0

    assert flights.join("x", streams="b").leads
    first.land(ANSWER)
    assert await early.answer() == await late.answer() == Word(ANSWER)
