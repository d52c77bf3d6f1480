"""A stream that others come along with: its client hears the same as ever, and its source ends once, settled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import pytest

from gateway.cache.base import Stored
from gateway.cache.broadcast import Broadcast, Seat
from gateway.cache.collecting import Shared
from gateway.cache.flights import Flight, Flights
from gateway.errors import GatewayError, UpstreamBroken
from gateway.relay import Relay
from gateway.wire.reply import CLIENT_LEFT
from tests.eventually import eventually

PROMISED = Stored("1", "key:k", "p", "x", "general", b"", "m", "e", 0.0, 0.0)


@dataclass
class Source:
    """Frames that come when they are let; notes how often and why it ended."""

    cast: Broadcast = field(default_factory=lambda: Broadcast(PROMISED))
    let: asyncio.Queue[bytes | GatewayError | None] = field(default_factory=asyncio.Queue)
    ends: list[str] = field(default_factory=list)
    fates: list[tuple[int, str | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.flights = Flights()
        self.flight = self.flights.join("x")
        self.relay = Relay(self.stream(), Shared(self.cast, self.flight, None), self.fates.append)

    def lets(self, *frames: bytes | GatewayError | None) -> None:
        for frame in frames:
            self.let.put_nowait(frame)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        why = "end"
        try:
            while (frame := await self.let.get()) is not None:
                if isinstance(frame, GatewayError):
                    raise frame
                self.cast.add(frame)
                yield frame
        except GeneratorExit:
            why = "closed"
            raise
        except asyncio.CancelledError as error:
            why = str(error)
            raise
        except GatewayError as error:
            why = error.message
            raise
        finally:
            self.ends.append(why)

    def follows(self) -> tuple[Flight, asyncio.Task[Seat | None]]:
        """Somebody who streams the same."""
        flight = self.flights.join("x", streams="a")

        async def seat() -> Seat | None:
            return (await flight.answer()).seat

        return flight, asyncio.create_task(seat())


async def rest(frames: AsyncGenerator[bytes, None]) -> list[bytes]:
    return [frame async for frame in frames]


async def read(seat: Seat) -> list[bytes]:
    found: list[bytes] = []
    while (frame := await seat.next()) is not None:
        found.append(frame)
    return found


async def both(source: Source) -> tuple[AsyncGenerator[bytes, None], Seat]:
    """The client and one who came along after the first frame."""
    source.lets(b"1")
    frames = source.relay.frames()
    assert await anext(frames) == b"1"
    _, boarding = source.follows()
    seat = await boarding
    assert seat is not None
    return frames, seat


async def test_a_stream_that_nobody_shares_has_no_task_of_its_own() -> None:
    source = Source()
    source.lets(b"1", b"2", None)
    before = asyncio.all_tasks()

    assert await rest(source.relay.frames()) == [b"1", b"2"]

    assert asyncio.all_tasks() == before and source.ends == ["end"]


async def test_one_who_comes_while_the_client_writes_comes_along_at_once() -> None:
    source = Source()
    frames, seat = await both(source)
    source.lets(b"2", None)

    assert await read(seat) == [b"1", b"2"]  # though the client reads nothing just now
    assert await rest(frames) == [b"2"] and source.ends == ["end"]


async def test_one_who_comes_while_the_client_awaits_a_frame_comes_along_with_that() -> None:
    source = Source()
    reading = asyncio.create_task(rest(source.relay.frames()))
    await asyncio.sleep(0)
    _, boarding = source.follows()
    await asyncio.sleep(0)
    assert not boarding.done()

    source.lets(b"1", b"2", None)

    seat = await boarding
    assert seat is not None and await read(seat) == await reading == [b"1", b"2"]


async def test_the_client_may_leave_and_the_last_one_ends_the_stream() -> None:
    source = Source()
    frames, seat = await both(source)
    await frames.aclose()
    assert source.fates == [(499, "client_disconnected")] and not source.ends
    source.lets(b"2")
    assert [await seat.next(), await seat.next()] == [b"1", b"2"]

    seat.leave()

    await eventually(lambda: source.ends)
    assert source.ends == [CLIENT_LEFT]


async def test_the_client_that_leaves_last_waits_until_the_stream_is_settled() -> None:
    source = Source()
    frames, seat = await both(source)
    seat.leave()

    await frames.aclose()

    assert source.ends == [CLIENT_LEFT]


async def test_a_client_that_is_cancelled_while_it_hears_with_others_ends_nothing() -> None:
    source = Source()
    frames, seat = await both(source)
    reading = asyncio.create_task(rest(frames))
    await asyncio.sleep(0)

    reading.cancel(CLIENT_LEFT)
    await asyncio.wait({reading})
    source.lets(b"2", None)

    assert await read(seat) == [b"1", b"2"]
    assert source.ends == ["end"] and source.fates == [(499, "client_disconnected")]


@pytest.mark.parametrize("shared", [True, False])
async def test_a_stream_that_breaks_breaks_for_all_in_the_same_way(shared: bool) -> None:
    source = Source()
    if shared:
        frames, seat = await both(source)
    else:
        frames = source.relay.frames()
    source.lets(UpstreamBroken("broke"))

    with pytest.raises(UpstreamBroken, match="broke"):
        await rest(frames)

    assert source.ends == ["broke"] and not source.fates
    if shared:
        assert await read(seat) == [b"1"]
        assert seat.ending is not None and seat.ending.error is not None


@pytest.mark.parametrize("shared", [True, False])
async def test_what_can_not_be_written_for_the_client_ends_its_part_only(shared: bool) -> None:
    source = Source()
    if shared:
        frames, seat = await both(source)
    else:
        source.lets(b"1")
        frames = source.relay.frames()
        await anext(frames)

    with pytest.raises(UpstreamBroken):
        await frames.athrow(UpstreamBroken("can't be said"))

    assert source.ends == ([] if shared else ["can't be said"])
    if shared:
        source.lets(b"2", None)
        assert await read(seat) == [b"1", b"2"]
        assert source.fates == [(UpstreamBroken("").http_status, UpstreamBroken.code)]


@pytest.mark.parametrize("left", [True, False])
async def test_an_unshared_stream_ends_with_its_client(left: bool) -> None:
    source = Source()
    reading = asyncio.create_task(rest(source.relay.frames()))
    await asyncio.sleep(0)

    reading.cancel(*([CLIENT_LEFT] if left else []))
    await asyncio.wait({reading})

    assert source.ends == [CLIENT_LEFT if left else ""] and reading.cancelled()


async def test_who_falls_too_far_behind_is_left_behind_by_the_others() -> None:
    source = Source(cast=Broadcast(PROMISED, max_bytes=3))
    frames, slow = await both(source)
    _, boarding = source.follows()
    quick = await boarding
    assert quick is not None
    reading = asyncio.create_task(read(quick))
    source.lets(b"22", b"33", b"44", None)

    assert await rest(frames) == [b"22", b"33", b"44"]

    assert await reading == [b"1", b"22", b"33", b"44"]
    with pytest.raises(UpstreamBroken):
        await slow.next()
